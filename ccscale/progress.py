"""What people are told on standard error: how far long work has come, and what happens on the way.

Standard output is for results.
"""

import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ccscale.printing import plain, visible

LINE_SECONDS = 10.0


class _StandardError(Console):
    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on: a Ctrl-C has ended `| tee`, too, and what is to be saved is still to be."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


CONSOLE = _StandardError(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line, above a progress bar that may be there."""
    CONSOLE.print(plain(text), soft_wrap=True)


class Meter:
    """Counts units of work: a bar on a terminal, a line now and then elsewhere, nothing if not `show`.

    Parameters
    ----------
    title
        What is being done, as in "writing shards".
    total
        Units in all.
    unit
        Their name, as in "images".
    show
        Whether to say anything.
    done
        Units that were done before, which do not count for the rate.
    """

    def __init__(self, title: str, total: int, unit: str, show: bool, done: int = 0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._note = ""
        self._start = self._said = time.monotonic()
        self._lines = show and not sys.stderr.isatty()
        self._bar: Progress | None = None
        if show and not self._lines:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} {task.fields[unit]}/s", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=CONSOLE,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(
                visible(title), total=total, completed=done, rate="-", unit=unit, note=""
            )

    def __enter__(self) -> "Meter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._lines and kind is None:
            self._say()

    def advance(self, units: int = 1) -> None:
        """Count `units` more."""
        self.update(self._done + units)

    def update(self, done: int, note: str = "") -> None:
        """Set how many units are done, and what is shown behind them."""
        self._done, self._note = done, note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=_figure(self._rate()), note=visible(note))
        elif self._lines and time.monotonic() - self._said >= LINE_SECONDS:
            self._say()

    def _rate(self) -> float:
        return (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def _say(self) -> None:
        self._said = time.monotonic()
        rate = self._rate()
        left = (
            f", {(self._total - self._done) / rate:,.0f} s left"
            if rate > 0 and self._done < self._total
            else ""
        )
        note = f", {self._note}" if self._note else ""
        say(
            f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, {_figure(rate)} a second{left}{note}"
        )


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"
