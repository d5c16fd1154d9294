"""The timeline of a step: computation and communication in two lanes, and their dependencies. Pure functions.

All ranks do the same at the same time. Messages are sent one after the other, in the order in which they were
started, and overlap with computation until they are waited for.
"""

from collections import Counter
from typing import NamedTuple

COMPUTE, NETWORK = "compute", "network"


class Interval(NamedTuple):
    """Something that lasts; seconds from the step's begin."""

    lane: str
    what: str
    begin: float
    end: float


class StepTimeline:
    """The timeline of a step.

    Attributes
    ----------
    now
        Seconds that have passed for what is computed.
    spans
        What was computed and sent.
    sent, waited
        Seconds by what is sent: that it travels, and that nothing is computed meanwhile.
    """

    def __init__(self) -> None:
        self.now = self._free = 0.0
        self.spans: list[Interval] = []
        self.sent: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()

    def work(self, what: str, seconds: float) -> None:
        """Compute."""
        self._note(Interval(COMPUTE, what, self.now, self.now + seconds))
        self.now += seconds

    def begin(self, what: str, seconds: float) -> float:
        """Begin to send; return when it will be there."""
        start = max(self.now, self._free)
        self._free = start + seconds
        self._note(Interval(NETWORK, what, start, self._free))
        self.sent[what] += seconds  # type: ignore[assignment]
        return self._free

    def wait(self, what: str, end: float) -> None:
        """Wait for a started operation."""
        self.waited[what] += max(0.0, end - self.now)  # type: ignore[assignment]
        self.now = max(self.now, end)

    def send(self, what: str, seconds: float) -> None:
        """Send, and wait for it."""
        self.wait(what, self.begin(what, seconds))

    def _note(self, span: Interval) -> None:
        if span.end > span.begin:
            self.spans.append(span)
