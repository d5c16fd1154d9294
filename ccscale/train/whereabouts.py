"""Where the main threads of the ranks stand, and which of them hangs.

A rank's main thread notes its step and what it does there; its heartbeat tells that to the others, with what it
sees of the thread from outside: the line of code, and whether that is a call in which it waits for other ranks.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import FrameType

WAITING = ("/torch/distributed/", "/deepspeed/comm/", "/ccscale/dist.py")
"""Parts of the names of files in whose code a rank waits for others."""
COMPILING = ("torch/_dynamo/convert_frame.py", "torch/_inductor/compile_fx.py")
"""Files whose code is on a thread's stack as long as something is compiled."""
SLOWER = 3
"""A rank may take so many times as long for something as it ever has."""


@dataclass(frozen=True)
class Sighting:
    """Where a rank's main thread was seen."""

    host: str
    moves: int = 0
    """How often it has come from one thing to the next: the same number on every rank at the same place."""
    step: int = 0
    doing: str = ""
    at_work: bool = True
    """Whether it does what may take any time."""
    waiting: bool = False
    """Whether it waits for other ranks."""
    line: str = ""
    longest: float = 0.0
    """Seconds that it has taken for one thing, at most; what may take any time does not count."""

    def as_text(self) -> str:
        """Return it for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Sighting":
        """Read what `as_text` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return f"step {self.step}, {self.doing} ({self.line})"


class Whereabouts:
    """What the main thread notes of itself: assignments, which cost it nothing. Made in that thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._now = (0, 0, "starting", True)
        self._since, self._longest = time.monotonic(), 0.0
        self._host = socket.gethostname()

    def at(self, step: int, doing: str, at_work: bool = False) -> None:
        """Note what is done from now on.

        Parameters
        ----------
        step
            Counted from 1.
        doing
            What, as in "waiting for data".
        at_work
            Whether it may take any time: a rank is not taken for one that hangs while it does that.
        """
        now = time.monotonic()
        moves, *_, was_at_work = self._now
        if not was_at_work:
            self._longest = max(self._longest, now - self._since)
        self._since = now
        self._now = (moves + 1, step, doing, at_work)

    def part(self, doing: str) -> None:
        """Note which part of the same is done from now on."""
        _, step, _, at_work = self._now
        self.at(step, doing, at_work)

    def look(self) -> Sighting:
        """Return where the main thread stands; from another thread."""
        moves, step, doing, at_work = self._now
        frames = sys._current_frames()
        main = frames.get(self._thread)
        waiting = main is not None and any(name in main.f_code.co_filename for name in WAITING)
        at_work = at_work or any(_is_compiling(frame) for frame in frames.values())
        return Sighting(
            self._host, moves, step, doing, at_work, waiting, _line(main), round(self._longest, 3)
        )


class HangWatch:
    """Looks for a rank that stands still while others wait for it; on rank 0.

    Parameters
    ----------
    limit
        Seconds that a rank may stand still.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: dict[int, tuple[tuple[int, bool, bool], float]] = {}

    def find(self, sightings: Mapping[int, Sighting], now: float) -> str | None:
        """Return a sentence about the rank that hangs.

        Parameters
        ----------
        sightings
            Of all ranks that are there.
        now
            The time, in seconds, by this rank's clock: how long each stands where it is is measured by that.
        """
        still = {}
        for rank, seen in sightings.items():
            place = (seen.moves, seen.at_work, seen.waiting)
            before, since = self._seen.get(rank, (None, now))
            if before != place:
                self._seen[rank] = (place, now)
            else:
                still[rank] = now - since
        long = {rank: seconds for rank, seconds in still.items() if seconds > self._limit}
        # The one that all others wait for has come least far.
        for rank in sorted(long, key=lambda rank: (sightings[rank].moves, rank)):
            seen = sightings[rank]
            if seen.at_work or seen.waiting or long[rank] <= SLOWER * seen.longest:
                continue
            if any(_is_idle(sightings[other], seen) for other in long if other != rank):
                return (
                    f"rank {rank} on {seen.host} hangs: it has stood for {long[rank]:.0f} s at {seen}, and others "
                    "wait for it"
                )
        return None


def _is_idle(other: Sighting, seen: Sighting) -> bool:
    """Tell whether a rank that stands still does so because of one that has come no further."""
    return other.waiting or (other.moves > seen.moves and not other.at_work)


def _is_compiling(frame: FrameType) -> bool:
    return any(name.endswith(COMPILING) for name in _files(frame))


def _files(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def _line(frame: FrameType | None) -> str:
    if frame is None:
        return "its thread has ended"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}, {frame.f_code.co_name}"
