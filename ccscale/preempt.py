"""Requests to stop: received as signals, and acted on when all ranks are at the same step.

The handler notes the signal and returns: a save is a collective call, and the ranks are in step only at a step's
end, and between two batches of an evaluation, where they agree on it. Where there is nothing to save (they meet,
rank 0 reads a manifest), the handler raises `Stopped` instead, wherever that is. Signals that follow change
nothing, so that they cannot spoil the save; a second Ctrl-C is meant to.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import TypeVar

from ccscale.rank_environment import RankEnvironment

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
SAME_SECONDS = 1.0
"""A Ctrl-C so soon after another is the same one: the terminal sends it to all, and a launcher passes it on."""


class Stopped(BaseException):
    """A request to stop has ended what was under way; as `KeyboardInterrupt`, it is no fault of anything."""

    def __init__(self, name: str = "a request") -> None:
        super().__init__(f"stopped on {name}, with nothing to save; run the same command to continue")


class StopRequest:
    """Whether this process was asked to stop, by which signal, and when.

    Parameters
    ----------
    leave
        Called on a second Ctrl-C; by default it raises `KeyboardInterrupt`.
    """

    def __init__(self, leave: Callable[[], None] | None = None) -> None:
        self.signal: signal.Signals | None = None
        self.time = 0.0
        self._leave = leave
        self._at_once = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """What has asked."""
        return "a signal on another rank" if self.signal is None else self.signal.name

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until there is a request."""
        end = time.monotonic() + seconds
        while not self and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.1, left))  # a signal that is handled does not end a sleep

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """End the context's work on a request, wherever it is: for what leaves nothing to save.

        Raises
        ------
        Stopped
            On a request, also on one from before.
        """
        self._at_once = True
        try:
            if self:
                raise Stopped(self.name)
            yield
        finally:
            self._at_once = False

    def until(self, items: Generator[T]) -> Generator[T]:
        """Yield what there is until a request, which ends a wait for an item, too; `items` is closed then."""
        with closing(items):
            while True:
                try:
                    with self.at_once():
                        item = next(items)
                except (Stopped, StopIteration):
                    return
                yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.time = signal.Signals(number), now
            if self._at_once:
                raise Stopped(self.name)
            if number == signal.SIGINT and RankEnvironment.read().rank == 0:
                # Not through `progress.say`: the code that was interrupted may be writing.
                with contextlib.suppress(OSError):  # `| tee` has ended with the same Ctrl-C
                    os.write(2, b"stopping in order; Ctrl-C again leaves at once, without saving\n")
        elif number == signal.SIGINT and now - self.time >= SAME_SECONDS:
            if self._leave is not None:
                self._leave()
            raise KeyboardInterrupt


@contextmanager
def stop_on_signal(
    signals: Sequence[signal.Signals] = SIGNALS, leave: Callable[[], None] | None = None
) -> Iterator[StopRequest]:
    """Turn signals (SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C by default) into a request for the length of the context.

    In another thread than the main one, which Python's handlers are for, nothing is heard.
    """
    request = StopRequest(leave)
    if threading.current_thread() is not threading.main_thread():
        signals = ()
    before = {number: signal.signal(number, request._note) for number in signals}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
