"""Trains runs in real processes, kills them, and compares the batches and losses of two."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lives import Life, fork, spawn

BOUNDS = {"fp64": 1e-8, "fp32": 1e-3}
SAME = 0.0  # bit-identical
LIMIT = 1800.0  # seconds for one start


@dataclass(frozen=True)
class Trial:
    """A run to compare with the first one of its precision."""

    world: int
    workers: int
    killed_after: int | None = None
    """Step after which it is killed."""
    goes_on_at: int | None = None
    """Number of ranks that it is started again on."""
    threads: int = 1
    """Threads of each rank. More sum in another order: what they change is what rounding alone does."""

    def __str__(self) -> str:
        if self.threads > 1:
            return f"{self.world} ranks, {self.threads} threads: rounding alone, for comparison"
        killed = (
            f", killed after step {self.killed_after}, then {self.goes_on_at} ranks"
            if self.killed_after
            else ""
        )
        return f"{self.world} ranks, {self.workers} workers{killed}"


def start(config: Path, world: int, overrides: Sequence[str], threads: int = 1) -> Life:
    """Start training on `world` ranks.

    With several `threads` each is a Python of its own, else a copy of one that has made the imports.
    """
    arguments = ["train", str(config), *overrides]
    if threads == 1:
        return Life(fork(arguments), world)
    number = f"OMP_NUM_THREADS={threads}"
    return Life(spawn(["env", number, sys.executable, "-m", "ccscale", *arguments]), world)


def train(config: Path, world: int, overrides: Sequence[str] = (), threads: int = 1) -> str:
    """Train to the end and return what was said.

    Raises
    ------
    RuntimeError
        With all that was said, if it does not end well.
    """
    return start(config, world, overrides, threads).finish(LIMIT)


def kill_after(config: Path, world: int, run: Path, step: int, overrides: Sequence[str] = ()) -> None:
    """Train until a step's line is in the log, then kill all of its processes at once.

    Raises
    ------
    RuntimeError
        If it ended before.
    """
    life = start(config, world, overrides)
    while life.code() is None and len(steps(run)) < step:
        time.sleep(0.02)
    if life.code() is not None:
        raise RuntimeError(f"training ended before step {step}:\n{life.said()}")
    life.kill_group()
    life.wait(LIMIT)


def steps(run: Path) -> list[dict[str, float | str]]:
    """Return the records of the steps in a run's log; a last line that is being written is left out."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [record for record in map(json.loads, lines) if record["kind"] == "step"]


def difference(found: Sequence[dict], expected: Sequence[dict]) -> tuple[bool, float]:
    """Return whether the batches are the same, and the largest relative difference of the losses."""
    if len(found) != len(expected):
        raise RuntimeError(f"{len(found)} steps were taken, and {len(expected)} in the run to compare with")
    digests = [record["batch_digest"] for record in found] == [record["batch_digest"] for record in expected]
    losses = [
        abs(a[name] - b[name]) / abs(b[name])
        for a, b in zip(found, expected, strict=True)
        for name in ("loss", "instance_loss", "cluster_loss")
        if a[name] is not None or b[name] is not None
    ]
    return digests, max(losses)


def run_trial(config: Path, run: Path, trial: Trial, overrides: Sequence[str] = ()) -> None:
    """Take a trial's run from its start to its end."""
    overrides = [*overrides, f"run={run}", f"data.workers={trial.workers}"]
    if trial.killed_after is not None:
        kill_after(config, trial.world, run, trial.killed_after, overrides)
    train(config, trial.goes_on_at or trial.world, overrides, trial.threads)
