"""A run's ``metrics.jsonl``: one line per step, evaluation, or check of a stage.

::

    {"kind": "step", "step": 1, "epoch": 1, "loss": …, "instance_loss": …, "cluster_loss": …, "lr": …,
     "images_per_second": …, "data_wait": …, "batch_digest": "…", "time": …}
    {"kind": "evaluation", "step": …, "epoch": …, "splits": […], "sizes": […], "acc": …, …, "time": …}
    {"kind": "stage", "stage": "boost", "step": …, "labelled": …, "unlabelled_clusters": …, "agreement": …,
     "stability": …, "neighbours": …, "effective_clusters": …, "begun": null, "waits": "…",
     "ended": null, "time": …}

A loss that the step does not compute is null; if epochs have phases, `phase` counts them from 1.

Lines are identified by their step: a run that resumes from a checkpoint first drops the lines after it.
"""

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.progress import say

METRICS = "metrics.jsonl"
MOST_UNWRITTEN = 100_000


class MetricsFile:
    """The file, as rank 0 appends to it.

    A disk that is full or read-only does not stop a run: its lines are kept, and written when it takes them again.

    Parameters
    ----------
    path
        The file.
    before_writing
        Called before each change; raises where this process may write no more.
    """

    def __init__(self, path: Path, before_writing: Callable[[], None] = lambda: None) -> None:
        self.path, self._before_writing = path, before_writing
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._failing = False

    def append(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write lines, and earlier ones that could not be written; report a failure once.

        Returns
        -------
        list of dict
            What was written now.
        """
        self._before_writing()
        self._unwritten.extend(records)
        try:
            append_lines(self.path, [json.dumps(_finite(record)) for record in self._unwritten])
        except OSError as error:
            if not self._failing:
                say(
                    f"warning: {self.path} cannot be written ({error.strerror}); the run continues, and "
                    "the lines are written once it can be"
                )
            self._failing = True
            return []
        if self._failing:
            say(f"{self.path} can be written again: {len(self._unwritten)} missing lines were added")
            self._failing = False
        written = list(self._unwritten)
        self._unwritten.clear()
        return written

    def has_evaluation(self, step: int) -> bool:
        """Return whether there is a line of an evaluation after `step`."""
        return any(line["kind"] == "evaluation" and line["step"] == step for line in read_lines(self.path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines; a last one that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append lines to a file, all of them or none.

    Raises
    ------
    OSError
        If they cannot be written; the file is as it was.
    """
    size = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise


def drop_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a last line that was cut off."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for line in lines:
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    if len(kept) < len(lines):
        atomic.write_bytes(path, b"".join(kept))


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Put null for numbers that JSON does not have."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
