"""What a rank's main thread is doing: the step and activity that it records, and where another thread finds it.

The other thread sees the line of code, and whether it is a call that waits for other ranks.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import FrameType

WAITING = ("/torch/distributed/", "/deepspeed/comm/", "/ccscale/dist.py")
"""Parts of the names of files in whose code a rank waits for others."""
COMPILING = ("torch/_dynamo/convert_frame.py", "torch/_inductor/compile_fx.py")
"""Files whose code is on a thread's stack as long as something is compiled."""


@dataclass(frozen=True)
class Activity:
    """What a rank's main thread was doing when it was observed."""

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
    def from_text(cls, text: str) -> "Activity":
        """Read what `as_text` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return f"step {self.step}, {self.doing} ({self.line})"


class ActivityRecorder:
    """Records the activity of the main thread, by assignments that cost nothing. Created in that thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._now = (0, 0, "starting", True)
        self._since, self._longest = time.monotonic(), 0.0
        self._host = socket.gethostname()

    def begin(self, step: int, doing: str, at_work: bool = False) -> None:
        """Record a new activity.

        Parameters
        ----------
        step
            Counted from 1.
        doing
            What, as in "waiting for data".
        at_work
            Whether it may take any time: a rank doing it is never considered hanging.
        """
        now = time.monotonic()
        moves, *_, was_at_work = self._now
        if not was_at_work:
            self._longest = max(self._longest, now - self._since)
        self._since = now
        self._now = (moves + 1, step, doing, at_work)

    def part(self, doing: str) -> None:
        """Record which part of it is done from now on."""
        _, step, _, at_work = self._now
        self.begin(step, doing, at_work)

    def look(self) -> Activity:
        """Return the activity of the main thread; called from another thread."""
        moves, step, doing, at_work = self._now
        frames = sys._current_frames()
        main = frames.get(self._thread)
        waiting = main is not None and any(name in main.f_code.co_filename for name in WAITING)
        at_work = at_work or any(_is_compiling(frame) for frame in frames.values())
        return Activity(
            self._host, moves, step, doing, at_work, waiting, _line(main), round(self._longest, 3)
        )


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
