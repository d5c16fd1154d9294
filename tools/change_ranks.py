#!/usr/bin/env python
"""Shows that a run goes on as it was when the number of its ranks changes.

    python tools/change_ranks.py SHARDS [--ranks 2 1 4 2] [--steps 20] [--case fp32:0 --case fp64:1 ...] [--json]

A run is trained on two ranks, then on one, on four, and on two again, so many steps on each, in real processes
that end and start anew: each saves at its end and loads what the one before has saved, under ZeRO 1 and 2 through a
conversion. The batches and losses of each leg are compared with those of an unbroken run on as many ranks as the
first leg had. For comparison: what the losses of an unbroken run on one rank differ by, which is rounding alone.
Prints a table; exits with 1 if a bound does not hold.

    bounds      digests     losses, relative
    fp64        equal       1e-8
    fp32        equal       1e-3, and bit-identical in the first leg
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from same_run import BOUNDS, SAME, difference, steps
from same_run import train as train_on

CASES = ("fp32:0", "fp32:1", "fp32:2", "fp64:1")
"""Precision and ZeRO stage."""


def train(config: Path, run: Path, ranks: int, stop: int, settings: Sequence[str]) -> str:
    """Train a run up to step `stop` on so many ranks; return what was said."""
    return train_on(config, ranks, [f"run={run}", f"train.max_steps={stop}", *settings])


def change(
    config: Path, folder: Path, ranks: Sequence[int], leg: int, case: str, alone: bool
) -> list[dict[str, Any]]:
    """Take a run through its legs, and compare them.

    Parameters
    ----------
    config
        The run's.
    folder
        For the runs.
    ranks, leg
        Number of ranks of each leg; steps in each.
    case
        One of `CASES`.
    alone
        Whether one rank is tried too, for comparison.

    Returns
    -------
    list of dict
        For each leg ``ranks``, ``first`` and ``last`` step, ``converted``, ``digests`` (whether they are equal),
        ``worst`` (the largest relative difference of a loss), ``bound``, ``alone`` (`worst` of an unbroken run on
        one rank, or None), ``holds``.
    """
    precision, zero = case.split(":")
    settings = [f"train.precision={precision}", f"train.zero={zero}"]
    total = leg * len(ranks)
    runs = {name: folder / f"{precision}-{zero}-{name}" for name in ("changed", "unbroken", "alone")}
    train(config, runs["unbroken"], ranks[0], total, settings)
    if alone:
        train(config, runs["alone"], 1, total, settings)
    said = [
        train(config, runs["changed"], count, leg * number, settings) for number, count in enumerate(ranks, 1)
    ]
    found = {name: steps(run) for name, run in runs.items()}
    results = []
    for number, count in enumerate(ranks):
        part = slice(leg * number, leg * (number + 1))
        digests, worst = difference(found["changed"][part], found["unbroken"][part])
        bound = BOUNDS[precision] if number else SAME
        results.append(
            {
                "case": case,
                "ranks": count,
                "first": part.start + 1,
                "last": part.stop,
                "converted": "converting step-" in said[number],
                "digests": digests,
                "worst": worst,
                "bound": bound,
                "alone": difference(found["alone"][part], found["unbroken"][part])[1] if alone else None,
                "holds": digests and worst <= bound,
            }
        )
    return results


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print the legs of a case as a table."""
    precision, zero = results[0]["case"].split(":")
    print(f"{precision}, ZeRO {zero}")
    for leg in results:
        ranks = f"{leg['ranks']} {'rank' if leg['ranks'] == 1 else 'ranks'}"
        converted = "converted" if leg["converted"] else ""
        digests = "equal" if leg["digests"] else "DIFFER"
        alone = "" if leg["alone"] is None else f"; one rank, unbroken: {leg['alone']:.1e}"
        bounds = f"(bound {leg['bound']:.0e}{alone})"
        print(
            f"  {ranks:7}  steps {leg['first']:3} to {leg['last']:3}  {converted:9}  digests {digests}  "
            f"losses differ by {leg['worst']:.1e} {bounds} {'ok' if leg['holds'] else 'FAILED'}",
            flush=True,
        )


def main() -> int:
    """Take all cases and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("shards", metavar="SHARDS")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 1, 4, 2], help="of each leg")
    parser.add_argument("--steps", type=int, default=20, help="of each leg")
    parser.add_argument("--case", action="append", choices=CASES, help="again for more; all by default")
    parser.add_argument("--no-alone", dest="alone", action="store_false", help="without one rank, unbroken")
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clusters", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = {
        "data": {"shards": str(Path(args.shards).resolve()), "workers": 0},
        "views": {"size": args.size, "blur": 0.5, "blur_kernel": 3},
        "model": {"backbone": args.backbone, "clusters": args.clusters, "stem": "small"},
        "train": {"global_batch": args.batch, "epochs": 1_000_000, "log_every": 1, "device": "cpu"},
    }
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        for case in args.case or CASES:
            results += change(path, Path(folder), args.ranks, args.steps, case, args.alone)
            if not args.json:
                show(results[-len(args.ranks) :])
    if args.json:
        print(json.dumps({"legs": results}))
    return 0 if all(leg["holds"] for leg in results) else 1


if __name__ == "__main__":
    sys.exit(main())
