"""Progress and messages on standard error.

Standard output is for results.
"""

import gc
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ccscale.printing import plain, visible
from ccscale.rank_environment import RankEnvironment

LINE_SECONDS = 10.0
_UNITS = ((60, 60, "min", 1, "s"), (48, 3600, "h", 60, "min"), (math.inf, 86400, "days", 3600, "h"))
"""Up to how many a unit is used, its seconds and name, those of the next smaller one."""


class _StandardError(Console):
    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on: a Ctrl-C has ended `| tee`, too, and what is to be saved is still to be."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


# In a notebook rich would show each line as an output of its own, past whoever has taken sys.stderr for themselves.
CONSOLE = _StandardError(stderr=True, highlight=False, force_jupyter=False)


def say(text: str) -> None:
    """Print a line, above a progress bar that may be there."""
    CONSOLE.print(plain(text), soft_wrap=True)


@contextmanager
def loading() -> Iterator[None]:
    """Tell what the silence is that comes next: PyTorch takes seconds.

    Garbage is not collected in it: modules are half a million objects and next to no garbage, and to walk over them
    again and again was a tenth of a start. Nor is it looked for among them later.
    """
    if "torch" in sys.modules:
        yield
        return
    if RankEnvironment.read().rank == 0:
        say("loading PyTorch")
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 0.25 s, 12 s, 3 min 20 s, 5 h 10 min, 4 days 8 h."""
    if seconds < 10:
        return f"{round(seconds, 3):.2g} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    size, unit, part, small = next(row for row in _UNITS if round(seconds) < row[0] * row[1])[1:]
    many, rest = divmod(round(seconds / part), size // part)
    return f"{many:,} {unit}" + (f" {rest} {small}" if rest and many < 100 else "")


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
        Whether to say anything; where nothing is left to do, nothing is said.
    done
        Units that were done before, which do not count for the rate.
    """

    def __init__(self, title: str, total: int, unit: str, show: bool, done: int = 0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._note = ""
        self._start = self._said = time.monotonic()
        show = show and done < total
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

    def lengthen(self, total: int) -> None:
        """Set how many units there are in all."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def _rate(self) -> float:
        return (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def _say(self) -> None:
        self._said = time.monotonic()
        rate = self._rate()
        speed = f", {_figure(rate)} a second" if rate > 0 else ""
        left = (
            f", {duration((self._total - self._done) / rate)} left"
            if rate > 0 and self._done < self._total
            else ""
        )
        note = f", {self._note}" if self._note else ""
        say(f"{self._title}: {self._done:,} of {self._total:,} {self._unit}{speed}{left}{note}")


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"
