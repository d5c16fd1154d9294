"""Shows that a run is the same at any number of ranks and workers, and goes on exactly where it was killed.

    python tools/same_run.py SHARDS [--steps 30] [--backbone resnet10t] ...

Trains the same config again and again in real processes: on one rank and on two, with one and three loader
workers, killed by SIGKILL in mid-epoch and started again on the same and on the other number of ranks. Each run's
batch digests and losses are compared with the first's. Prints a table; exits with 1 if a bound does not hold.

    bounds      digests     losses, relative
    fp64        equal       1e-8
    fp32        equal       1e-3, and bit-identical at the same number of ranks
"""

import argparse
import json
import os
import sys
import tempfile
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


def start(config: Path, world: int, overrides: Sequence[str], threads: int = 1, fresh: bool = False) -> Life:
    """Start training on `world` ranks.

    With several `threads`, or if it is to be `fresh`, each is a Python of its own, else a copy of one that has made
    the imports.
    """
    arguments = ["train", str(config), *overrides]
    if threads == 1 and not fresh:
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


def main() -> int:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards", metavar="SHARDS")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--clusters", type=int, default=16)
    parser.add_argument("--evaluate", metavar="SPLIT", help="split for the evaluation at the end of each run")
    parser.add_argument("--precision", choices=BOUNDS, action="append", help="again for more; all by default")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    kill, every = args.steps * 3 // 5, args.steps // 3  # the last checkpoint lies well before the kill
    settings = {
        "data": {"shards": str(Path(args.shards).resolve())},
        "views": {"size": args.size, "blur": 0.5, "blur_kernel": 5},
        "model": {"backbone": args.backbone, "clusters": args.clusters},
        "train": {
            "global_batch": args.batch,
            "max_steps": args.steps,
            "save_every": every,
            "save_minutes": None,
            "log_every": 1,
        },
    }
    settings["train"]["device"] = "cpu"
    if args.evaluate is not None:
        settings["evaluate"] = {"splits": [args.evaluate]}
    first = Trial(1, 1)
    trials = [
        Trial(1, 1, threads=2),
        Trial(1, 3),
        Trial(2, 1),
        Trial(2, 3),
        Trial(1, 1, kill, 1),
        Trial(1, 1, kill, 2),
        Trial(2, 1, kill, 1),
        Trial(2, 1, kill, 2),
    ]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        for precision in args.precision or BOUNDS:
            overrides = [f"train.precision={precision}", f"train.zero={1 if precision == 'fp64' else 0}"]
            run_trial(config, Path(folder) / precision, first, overrides)
            expected = steps(Path(folder) / precision)
            unbroken: dict[int, list[dict]] = {1: expected}  # by number of ranks
            print(
                f"{precision}: {args.steps} steps, loss {expected[0]['loss']:.4f} to {expected[-1]['loss']:.4f}"
            )
            for number, trial in enumerate(trials):
                run = Path(folder) / f"{precision}-{number}"
                run_trial(config, run, trial, overrides)
                always = trial.world if trial.goes_on_at in (None, trial.world) else None
                # On the same number of ranks all the while: bit-identical to the run that was not killed there.
                bound = SAME if always in unbroken else BOUNDS[precision]
                digests, worst = difference(steps(run), unbroken.get(always, expected))
                if always is not None and trial.killed_after is None:
                    unbroken.setdefault(always, steps(run))
                good = digests and worst <= bound
                verdict = f"(bound {bound:.0e}) {'ok' if good else 'FAILED'}"
                if trial.threads > 1:  # the measure of the others, and itself without a bound
                    good, verdict = digests, ""
                failed |= not good
                same = "equal" if digests else "DIFFER"
                print(f"  {trial!s:58} digests {same}, losses differ by {worst:.1e} {verdict}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
