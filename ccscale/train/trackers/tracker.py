"""What is asked of a tracker, and what all of them send."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ccscale import atomic

GROUPS = {"step": "train", "evaluation": "evaluate", "stage": "stage"}
"""What the figures of a line are filed under, by its kind; TensorBoard's, too."""

End = Literal["finished", "stopped", "failed"]
Line = dict[str, Any]
Sent = dict[str, int]
"""Of each kind of line, the step up to which they were sent."""


AGAIN = "the same command again sends what it lacks"


class Tracker(Protocol):
    """A service to which a run is sent. Its methods are called in a thread, may be slow, and may raise."""

    title: str
    """What people call it."""
    place: str
    """Which of its servers and projects: what was sent to another one does not count."""
    file: str
    """In the run's folder, for id and what was sent."""
    remedy: str
    """A sentence on how it gets what it lacks at the end."""

    def open(self, run: str | None, sent: Sent) -> tuple[str, Sent]:
        """Continue the run of that id, or start a new one; return its id and what it has received."""

    def add(self, lines: Sequence[Line], sent: Sent) -> None:
        """Send lines of the log; afterwards it has received what `sent` says."""

    def close(self, end: End) -> None:
        """Record the run's end."""


def figures(line: Line) -> dict[str, float]:
    """Return the figures of a line by their names, ``train/loss`` say."""
    group = GROUPS[line["kind"]]
    return {
        f"{group}/{key}": value
        for key, value in line.items()
        if isinstance(value, int | float) and key not in ("step", "time")
    }


def read_kept(folder: Path, tracker: Tracker) -> tuple[str | None, Sent]:
    """Return under which id a tracker has the run in `folder`, None where it does not, and what was sent."""
    try:
        found = json.loads((folder / tracker.file).read_text(encoding="utf-8"))
        if found["place"] == tracker.place:
            return found["id"], dict(found["sent"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None, {}


def keep(folder: Path, tracker: Tracker, run: str, sent: Sent) -> None:
    """Note it, for the run's next start."""
    content = {"version": 1, "place": tracker.place, "id": run, "sent": sent}
    atomic.write_bytes(folder / tracker.file, (json.dumps(content) + "\n").encode())
