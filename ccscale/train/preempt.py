"""Requests to stop, taken from signals and acted on between steps.

The handler notes the signal and returns: a save is a collective call, and the ranks are in step with each other
only at a step's end, where `train.loop` agrees on it. Signals that follow change nothing, so that they cannot
spoil the save.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
ENDS = (*SIGNALS, signal.SIGINT)
"""Of work that has no end of its own."""


class StopRequest:
    """Whether this process was asked to stop, by which signal, and when."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.time = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until there is a request."""
        end = time.monotonic() + seconds
        while not self and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.1, left))  # a signal that is handled does not end a sleep

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self.time = signal.Signals(number), time.monotonic()


@contextmanager
def stop_on_signal(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[StopRequest]:
    """Turn signals (SIGTERM, SIGUSR1 and SIGUSR2 by default) into a request for the length of the context."""
    request = StopRequest()
    before = {number: signal.signal(number, request._note) for number in signals}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
