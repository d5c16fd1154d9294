"""Estimates how long training will take, after the first steps."""

import time
from collections.abc import Callable

from ccscale import dist
from ccscale.progress import duration, say

LONG = 2 * 86400.0  # seconds: longer runs are warned of
WARM_UP = 10
"""Steps after the first that are measured where that one is another matter than the others."""


class TimeEstimate:
    """Measures the first steps, and prints how long they take and when training will end.

    The first step takes longer than the others, many times as long on a GPU or with a compiler: at best it gives an
    upper bound. So some more steps are measured.

    All ranks call it alike: measuring synchronizes the device, twice in all.

    Parameters
    ----------
    start, stop
        Steps done so far, and the last step.
    even
        Whether the first step takes as long as the others: nothing is compiled, tuned or deferred in it.
    settle
        Waits until the device has finished all launched steps.
    """

    def __init__(self, start: int, stop: int, even: bool, settle: Callable[[], None]) -> None:
        self._start, self._stop, self._even, self._settle = start, stop, even, settle
        self._begun = time.monotonic()
        if start < stop:
            dist.say("running the first step")

    def step(self, step: int) -> None:
        """Record that a step was taken."""
        taken = step - self._start
        if taken not in (1, 1 + WARM_UP):
            return
        self._settle()
        seconds, left = time.monotonic() - self._begun, self._stop - step
        self._begun = time.monotonic()
        if dist.rank() > 0 or not left:
            return
        if taken == 1 and not self._even:
            say(f"the first step took {duration(seconds)}")
        elif taken == 1:
            _tell(f"the first step took {duration(seconds)}", "at most", left, seconds)
        else:
            _tell(f"a step takes {duration(seconds / WARM_UP)}", "about", left, seconds / WARM_UP)


def _tell(what: str, about: str, left: int, each: float) -> None:
    """Print the expected duration, with advice if it is days."""
    seconds = each * left
    end = time.strftime("%a %d %b, %H:%M", time.localtime(time.time() + seconds))
    rest = f"the remaining {left:,} take" if left > 1 else "the last one takes"
    say(f"{what}: {rest} {about} {duration(seconds)}, until {end}")
    if seconds >= LONG:
        say(
            "warning: that is days; a GPU, more ranks, or a smaller model.backbone, views.size or train.epochs "
            "take less"
        )
