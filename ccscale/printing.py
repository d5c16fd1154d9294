"""Readable output on standard output: lines and tables.

Names, keys and paths are data: none of rich's markup or emoji codes in them is obeyed (`[red]`, `:car:`), and no
control character reaches a terminal. All that rich prints is made here, or by `progress`.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

FOLDED = 24  # letters of a cell of text that stand in a line, at least, where there is no room for all

# Control characters, what ends a line, what turns the direction of writing, bytes that are no UTF-8.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Return a text with what a terminal would obey or cannot show written out: ``\x1b``, ``\n``, ``\udcff``."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def plain(text: str) -> Text:
    """Return a text that rich prints letter for letter."""
    return Text(visible(text))


def put(text: str, fold: bool = True) -> None:
    """Print a line; folded at the width of the terminal, unless it holds what is to be copied from it."""
    _console().print(plain(text), soft_wrap=not fold)


def put_json(value: Any) -> None:
    """Print one JSON object, for programs."""
    print(json.dumps(value), flush=True)


class TextTable:
    """A table of which nothing is cut off: where there is no room its columns move together, then text is folded.

    Parameters
    ----------
    headers
        Of the columns.
    text
        Which of them are columns of text; the others hold numbers.
    title
        A line above.
    """

    def __init__(self, *headers: str, text: Collection[str] = (), title: str | None = None) -> None:
        self._headers, self._text, self._title = headers, text, title
        self._rows: list[tuple[list[str], int | None]] = []
        self._rules: set[int] = set()

    def add(self, *cells: str, bold: int | None = None) -> None:
        """Add a row; the cell of the number `bold` stands out."""
        self._rows.append(([visible(cell) for cell in cells], bold))

    def rule(self) -> None:
        """Draw a line below the rows that are there."""
        self._rules.add(len(self._rows))

    def put(self) -> None:
        """Print it."""
        room = _console().width
        close = self._width(close=False) > room
        _console(max(room, self._width(close))).print(self._build(close))

    def _width(self, close: bool) -> int:
        """Return how wide it is at least."""
        cells = [[row[i] for row, _ in self._rows] for i in range(len(self._headers))]
        widths = 0
        for header, column in zip(self._headers, cells, strict=True):
            heads = self._head(header, close).split("\n")
            longest = max((plain(cell).cell_len for cell in column), default=0)
            longest = min(longest, FOLDED) if header in self._text else longest
            widths += max(longest, *(Text(head).cell_len for head in heads))
        count = len(self._headers)
        return widths + (2 * count - 1 if close else 3 * count + 1)

    def _head(self, header: str, close: bool) -> str:
        return visible(header).replace(" ", "\n") if close else visible(header)

    def _build(self, close: bool) -> Table:
        columns = (
            Column(Text(self._head(header, close)), overflow="fold")
            if header in self._text
            else Column(Text(self._head(header, close)), justify="right", no_wrap=True)
            for header in self._headers
        )
        title = None if self._title is None else plain(self._title)
        table = Table(*columns, title=title, title_justify="left", show_edge=not close)
        table.padding = (0, 0, 0, 1) if close else (0, 1)
        for number, (row, bold) in enumerate(self._rows, 1):
            cells = (Text(cell, "bold" if i == bold else "") for i, cell in enumerate(row))
            table.add_row(*cells, end_section=number in self._rules)
        return table


def _console(width: int | None = None) -> Console:
    return Console(highlight=False, width=width)
