#!/usr/bin/env python
"""Shows that a run is the same at any number of ranks and workers, and goes on exactly where it was stopped.

    python tools/faults/same_run.py SHARDS [--steps 30] [--case fp32:0 --case fp64:1 ...]
    python tools/faults/same_run.py SHARDS --change [2 1 4 2] [--steps 20] ...

Trains the same config again and again in real processes: on one rank and on two, with one and three loader
workers, killed by SIGKILL in mid-epoch and started again on the same and on the other number of ranks. Each run's
batch digests and losses are compared with those of the first.

With --change one run is trained on so many ranks in turn, --steps on each, in processes that end and start anew:
each saves at its end and loads what the one before has saved, under ZeRO 1 and 2 through a conversion. Each leg is
compared with an unbroken run on as many ranks as the first leg had; beside it stands by what the losses of an
unbroken run on one rank differ, which is rounding alone.

    bounds      digests     losses, relative
    fp64        equal       1e-8
    fp32        equal       1e-3, and bit-identical at the same number of ranks

Prints a table; exits with 1 if a bound does not hold.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from runs import BOUNDS, SAME, Trial, difference, run_trial, steps, train
from tool import parser

CASES = ("fp32:0", "fp32:1", "fp32:2", "fp64:1")
"""Precision and ZeRO stage."""


def trials(config: Path, folder: Path, case: str, total: int) -> Iterator[dict[str, Any]]:
    """Compare runs that are started, and killed, in other ways with one that is not; yield a row for each."""
    precision, overrides = _read(case)
    kill = total * 3 // 5  # the last checkpoint lies well before it
    run_trial(config, folder / "first", Trial(1, 1), overrides)
    expected = steps(folder / "first")
    unbroken: dict[int | None, list[dict[str, Any]]] = {1: expected}  # by number of ranks
    ways = [
        Trial(1, 1, threads=2),
        Trial(1, 3),
        Trial(2, 1),
        Trial(2, 3),
        *(Trial(first, 1, kill, then) for first in (1, 2) for then in (1, 2)),
    ]
    for number, trial in enumerate(ways):
        run = folder / str(number)
        run_trial(config, run, trial, overrides)
        # On the same number of ranks all the while: bit-identical to the run that was not killed there.
        always = trial.world if trial.goes_on_at in (None, trial.world) else None
        bound = SAME if always in unbroken else BOUNDS[precision]
        # More threads are the measure of the others, and have no bound themselves.
        yield _row(
            str(trial), steps(run), unbroken.get(always, expected), None if trial.threads > 1 else bound
        )
        if always is not None and trial.killed_after is None:
            unbroken.setdefault(always, steps(run))


def legs(
    config: Path, folder: Path, case: str, leg: int, ranks: Sequence[int], alone: bool
) -> Iterator[dict[str, Any]]:
    """Take a run through its legs, `leg` steps on each number of ranks; yield a row for each.

    Its row has, besides, `converted`, and `alone`: by what one rank, unbroken, differs (None if it is not tried).
    """
    precision, overrides = _read(case)

    def take(name: str, count: int, stop: int) -> str:
        return train(config, count, [f"run={folder / name}", f"train.max_steps={stop}", *overrides])

    take("unbroken", ranks[0], leg * len(ranks))
    if alone:
        take("alone", 1, leg * len(ranks))
    said = [take("changed", count, leg * number) for number, count in enumerate(ranks, 1)]
    found = {name: steps(folder / name) for name in ("changed", "unbroken", "alone")}
    for number, count in enumerate(ranks):
        part = slice(leg * number, leg * (number + 1))
        what = f"steps {part.start + 1} to {part.stop}, {count} {'rank' if count == 1 else 'ranks'}"
        converted = "converting step-" in said[number]
        row = _row(
            what + (", converted" if converted else ""),
            found["changed"][part],
            found["unbroken"][part],
            BOUNDS[precision] if number else SAME,
        )
        apart = difference(found["alone"][part], found["unbroken"][part])[1] if alone else None
        yield row | {"ranks": count, "converted": converted, "alone": apart}


def _read(case: str) -> tuple[str, list[str]]:
    """Return a case's precision, and its settings."""
    precision, _, zero = case.partition(":")
    return precision, [f"train.precision={precision}", f"train.zero={zero}"]


def _row(what: str, found: Sequence[dict], expected: Sequence[dict], bound: float | None) -> dict[str, Any]:
    digests, worst = difference(found, expected)
    holds = digests and (bound is None or worst <= bound)
    return {"what": what, "digests": digests, "worst": worst, "bound": bound, "holds": holds}


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    same = "equal" if row["digests"] else "DIFFER"
    bound = "" if row["bound"] is None else f" (bound {row['bound']:.0e})"
    alone = "" if row.get("alone") is None else f" (one rank, unbroken: {row['alone']:.1e})"
    verdict = "ok" if row["holds"] else "FAILED"
    print(
        f"  {row['what']:58} digests {same}, losses differ by {row['worst']:.1e}{bound}{alone} {verdict}",
        flush=True,
    )


def main() -> int:
    """Train, compare and print the table."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS")
    options.add_argument("--change", type=int, nargs="*", metavar="W", help="ranks of each leg (2 1 4 2)")
    options.add_argument("--no-alone", dest="alone", action="store_false", help="without one rank, unbroken")
    options.add_argument("--steps", type=int, help="(30; with --change 20, of each leg)")
    options.add_argument("--case", action="append", choices=CASES, help="again for more (fp64:1, fp32:0)")
    options.add_argument("--backbone", default="resnet10t", help="(%(default)s)")
    options.add_argument("--size", type=int, default=64, help="of the views (%(default)s)")
    options.add_argument("--batch", type=int, default=64, help="global batch (%(default)s)")
    options.add_argument("--clusters", type=int, default=16, help="(%(default)s)")
    options.add_argument("--evaluate", metavar="SPLIT", help="evaluate on it at the end of each run")
    args = options.parse_args()
    changes = args.change is not None
    os.environ["OMP_NUM_THREADS"] = "1"
    total = args.steps or (20 if changes else 30)
    settings: dict[str, Any] = {
        "data": {"shards": str(Path(args.shards).resolve()), "workers": 0},
        "views": {"size": args.size, "blur": 0.5, "blur_kernel": 5},
        "model": {"backbone": args.backbone, "clusters": args.clusters},
        "train": {"global_batch": args.batch, "epochs": 1_000_000, "log_every": 1, "device": "cpu"},
    }
    if not changes:
        settings["train"] |= {"max_steps": total, "save_every": max(1, total // 3), "save_minutes": None}
    if args.evaluate is not None:
        settings["evaluate"] = {"splits": [args.evaluate]}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.yaml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        for case in args.case or (CASES if changes else ("fp64:1", "fp32:0")):
            folder = Path(scratch) / case.replace(":", "-")
            if not args.json:
                print("{}, ZeRO {}".format(*case.split(":")))
            for row in (
                legs(config, folder, case, total, args.change or [2, 1, 4, 2], args.alone)
                if changes
                else trials(config, folder, case, total)
            ):
                rows.append({"case": case} | row)
                if not args.json:
                    show(row)
    if args.json:
        print(json.dumps({"rows": rows}))
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
