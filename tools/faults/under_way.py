"""What a training run is at, seen from outside: from its folder alone."""

import json
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

EVENTS = ("staging", "rename", "deletion", "evaluation", "conversion")
"""What can be seen to begin, and is over in a moment."""

_TAIL = 65536  # bytes: more than a line of metrics.jsonl


class UnderWay:
    """Watches a run's folder.

    Parameters
    ----------
    run
        The folder; it need not be there.
    evaluated
        The steps that are followed by an evaluation.
    """

    def __init__(self, run: Path, evaluated: Collection[int]) -> None:
        self._run, self._folder, self._evaluated = run, run / "checkpoints", evaluated
        self.begin()

    def begin(self) -> None:
        """Note that a life begins: what is older was left by those before."""
        self._since = time.time()
        self._first: int | None = None

    def steps(self) -> int:
        """Return how many steps this life has taken; it is called often, so that the first is seen."""
        last = self._last_line()
        if last is None:
            return 0
        self._first = last["step"] if self._first is None else self._first
        return last["step"] - self._first + 1

    def now(self) -> str:
        """Return one word for what is under way.

        Returns
        -------
        str
            ``"start"`` before the first step, ``"conversion"`` to another number of ranks, ``"staging"`` (a
            checkpoint is written), ``"rename"`` (it has its marker, not yet its name), ``"deletion"`` of an old
            one, ``"evaluation"``, ``"end"`` after the last one, else ``"step"``.
        """
        for event in ("conversion", "rename", "deletion", "staging", "evaluation"):
            if self.sees(event):
                return event
        last = self._last_line()
        if last is None:
            return "start"
        return "end" if last["kind"] == "evaluation" and last["step"] == max(self._evaluated) else "step"

    def sees(self, event: str) -> bool:
        """Tell whether one of `EVENTS` is under way."""
        if event == "conversion":
            return any(map(self._is_new, _entries(self._folder / "universal/.staging")))
        if event == "evaluation":
            last = self._last_line()
            return last is not None and last["kind"] == "step" and last["step"] in self._evaluated
        staged = [path for path in _entries(self._folder / ".staging") if self._is_new(path)]
        deleted = [path for path in staged if path.name.startswith("deleted-")]
        if event == "deletion":
            return bool(deleted)
        marked = [path for path in staged if (path / "COMMIT.json").exists()]
        return bool(marked) if event == "rename" else len(staged) > len(deleted)

    def _is_new(self, path: Path) -> bool:
        try:
            return path.stat().st_ctime >= self._since
        except FileNotFoundError:
            return False

    def _last_line(self) -> dict[str, Any] | None:
        """Return the last whole line of this life."""
        try:
            with open(self._run / "metrics.jsonl", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        record = json.loads(lines[-2]) if len(lines) > 1 else None
        return record if record is not None and record["time"] >= self._since else None


def _entries(folder: Path) -> Iterator[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    yield from (folder / name for name in names)
