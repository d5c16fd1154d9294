"""Retries of temporary network failures, with growing pauses, up to a time limit.

Only the first failure of a process is reported at once, later ones occasionally: hundreds of workers may see the
same outage.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from ccscale.errors import Fault, InputError
from ccscale.rank_environment import RankEnvironment

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 20.0  # seconds
STALL_SECONDS = 30.0  # without a byte, a connection is taken for dead
TELL_SECONDS = 30.0  # between two lines of a process

MISSING = "there is no such file"
REFUSED = "access to it is refused"
TRY_LATER = frozenset({408, 425, 429})  # HTTP's answers from 400 to 499 that another try may change

_told = -TELL_SECONDS


class Unreachable(Fault):
    """What could not be read for as long as it was tried."""


class RemoteError(OSError):
    """What no other try can change; the message says what is wrong with the file."""


class RemoteRefused(RemoteError):
    """A file that the server does not give, perhaps because it is not there: many tell no more without a right."""


class Closing:
    """Whether nobody waits for what is being read any more: ends all tries at once, in workers too.

    It has no lock, unlike `multiprocessing.Event`, so that a signal's handler may look at it.
    """

    def __init__(self) -> None:
        self._flag = multiprocessing.RawValue("b", 0)

    def is_set(self) -> bool:
        return bool(self._flag.value)

    def set(self) -> None:
        self._flag.value = 1

    def wait(self, seconds: float) -> None:
        """Wait for some seconds, or until it is set."""
        end = time.monotonic() + seconds
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


class Patience:
    """How long is tried, and whether it still matters.

    Parameters
    ----------
    seconds
        From the begin of a call until it is abandoned.
    closing
        Ends all tries at once.
    """

    def __init__(self, seconds: float, closing: Closing | None = None) -> None:
        self.seconds = seconds
        self.closing = closing

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self.closing is not None and self.closing.is_set()

    @property
    def stall(self) -> float:
        """Seconds without a byte after which a try has failed: several fit into the time that there is."""
        return min(STALL_SECONDS, self.seconds / 4)

    def call(self, name: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns, tried again for as long as it may help.

        Raises
        ------
        Unreachable
            When the time is over; it names `name`, and why the last try failed.
        Exception
            Whatever another try would not change.
        """
        begun, tries, pause = time.monotonic(), 0, FIRST_PAUSE
        while True:
            tries += 1
            try:
                return attempt()
            except Exception as error:
                if is_final(error):
                    raise
                reason = describe(error)
            left = self.seconds - (time.monotonic() - begun)
            if left <= 0 or self.is_over:
                raise Unreachable(
                    f"{name} cannot be read: {reason} ({tries} tries in {self.seconds:g} seconds)"
                )
            _tell(f"{name}: {reason}; it is tried again for up to {left:.0f} s")
            seconds = min(pause * random.uniform(0.5, 1), left)
            self.closing.wait(seconds) if self.closing is not None else time.sleep(seconds)
            pause = min(2 * pause, LONGEST_PAUSE)


def is_final(error: Exception) -> bool:
    """Return whether another try would end in the same way."""
    status = getattr(error, "status", 0)  # of aiohttp's errors
    if isinstance(status, int) and status:
        return 400 <= status < 500 and status not in TRY_LATER
    # ValueError: certificates and URLs that are wrong. The credentials' class is botocore's.
    final = (RemoteError, FileNotFoundError, PermissionError, ImportError, ValueError, TypeError, InputError)
    return isinstance(error, final) or type(error).__name__ == "NoCredentialsError"


def describe(error: BaseException) -> str:
    """Say in a few words why a read failed."""
    status = getattr(error, "status", 0)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return MISSING
    if isinstance(error, PermissionError) or status in (401, 403):
        return REFUSED
    if isinstance(status, int) and status:
        return f"the server answers {status}"
    if isinstance(error, TimeoutError):  # asyncio's and aiohttp's are of this class too
        return "the server sends nothing"
    return " ".join(str(error).split()) or type(error).__name__


def _tell(text: str) -> None:
    """Write a line to standard error, unless this process wrote one a moment ago.

    Not through `progress.say`: a worker that was forked may have inherited the lock of a console in use.
    """
    global _told
    if time.monotonic() - _told < TELL_SECONDS:
        return
    _told = time.monotonic()
    env = RankEnvironment.read()
    where = f"rank {env.rank}: " if env.world > 1 else ""
    os.write(2, f"{where}{text}\n".encode())
