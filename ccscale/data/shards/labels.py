"""What a label means, wherever it is written: in a cell of a table, a tar's ``.cls`` or a field of its ``.json``.

    nothing, -1, and what pandas reads as missing (nan, NA, null, None, …)   not known
    0, 7, 7.0        where all that are known are numbers: the class's number, below 2^20
    1.5, -2, 2^20    refused there: none of these counts classes from 0
    anything else    where any is no number: names, which become classes in sorted order

White space around a label is none of it. ``007`` and ``1_0`` are names, and so are True and False: sorted, they
are the classes 0 (False) and 1 (True). A number does not make more classes than `MOST_CLASSES`.
"""

import math
import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ccscale.config import MOST_CLASSES  # larger numbers are names of something else
from ccscale.errors import InputError

UNKNOWN = -1
LONGEST = 1000  # characters of a name

# As `pandas.read_csv` has them, letter by letter: a class may be called "none".
_MISSING = ("nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "null", "NULL", "None")
ABSENT = frozenset(["", "-1", "-1.0", *_MISSING])
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?|inf|infinity)", re.IGNORECASE)


class LabelError(InputError):
    """A label that cannot be one; `text` is it, and `what` says why, after "has the label …"."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__(text, what)
        self.text, self.what = text, what

    def __str__(self) -> str:
        return f"the label {_short(self.text)} {self.what}"


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, and the meaning of its label texts.

    Attributes
    ----------
    classes
        Their names, in the order of the labels; the numbers from 0 as texts where the labels are numbers.
    named
        Whether the labels are names of classes and not their numbers.
    """

    classes: tuple[str, ...]
    named: bool

    @classmethod
    def of(cls, texts: Iterable[str], before: "Labels | None" = None) -> "Labels":
        """Understand all the labels of a data set together.

        Parameters
        ----------
        texts
            As `as_text` gives them, in any order; each once is enough.
        before
            The classes that these join: they keep their labels, and new ones come after them.

        Raises
        ------
        LabelError
            If a label is no class's number where all are numbers, or there are too many names.
        """
        known = {text for text in texts if text not in ABSENT}
        if before is not None and not before.classes:
            before = None
        if before is not None and before.named:
            new = sorted(known.difference(before.classes))
            return cls._checked((*before.classes, *new), True)
        if before is None and not all(map(_NUMBER.fullmatch, known)):
            return cls._checked(tuple(sorted(known)), True)
        largest = max((_number(text) for text in sorted(known)), default=UNKNOWN)
        classes = before.classes if before is not None else ()  # whatever their names are
        return cls((*classes, *map(str, range(len(classes), largest + 1))), False)

    @classmethod
    def _checked(cls, classes: tuple[str, ...], named: bool) -> "Labels":
        if len(classes) > MOST_CLASSES:
            raise LabelError(
                classes[-1],
                f"is one of {len(classes):,} different ones, which are names of images rather than classes",
            )
        return cls(classes, named)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.classes)}

    def numbers(self, texts: Iterable[str]) -> Mapping[str, int]:
        """Return each text's label; `UNKNOWN` if the text means an unknown class.

        Raises
        ------
        LabelError
            For a text that is none of these labels.
        """
        found = {}
        for text in texts:
            if text in ABSENT:
                found[text] = UNKNOWN
            elif not self.named:
                found[text] = _number(text)
            elif text in self._places:
                found[text] = self._places[text]
            else:
                raise LabelError(text, "is not one of the data set's classes")
        return found


@dataclass(frozen=True)
class Labelling:
    """How the labels of a data set's tars are written.

    Attributes
    ----------
    labels
        What their texts mean.
    field
        The field of the samples' json that they are in; None: they are in ``cls``.
    """

    labels: Labels = Labels((), False)
    field: str | None = None


def as_text(value: object) -> str:
    """Return the text of a label: of a table's cell, a JSON value or the bytes of a file; "" for None.

    Raises
    ------
    LabelError
        If it is no text, number or bool, or too long to be a name.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise LabelError(repr(value), "is no text in UTF-8") from None
    if not isinstance(value, str | numbers.Number):  # a bool is a number
        raise LabelError(str(value), "is neither a text nor a number")
    text = str(value).strip()
    if len(text) > LONGEST:
        raise LabelError(text, f"has more than {LONGEST:,} characters, too many for the name of a class")
    return text


def _number(text: str) -> int:
    """Return the class's number that a text is."""
    if not _NUMBER.fullmatch(text):
        raise LabelError(text, "is not a number, unlike the other labels of this data set")
    value = float(text)
    if not math.isfinite(value) or value != int(value):
        raise LabelError(text, "is not an integer, but labels count classes from 0")
    if not 0 <= value < MOST_CLASSES:
        raise LabelError(
            text,
            f"is not from 0 to {MOST_CLASSES - 1:,}: labels count classes from 0; for an unknown class "
            "use -1 or leave it empty",
        )
    return int(value)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
