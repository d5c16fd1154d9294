"""Measures how good the advice on the number of clusters is, where the number of classes is known.

    python tools/bench/how_many.py PLACE [PLACE …] [--seeds 3] [--classes N] [--draws 1] [--json]

A PLACE is a feature store, a run that was evaluated (its backbone's features), an .npy file of features with labels
in a file of the same name with _y before its .npy, or one of the made-up ones without any clusters: blob (a
Gaussian), cube, sphere (uniform). --classes leaves so many classes in, chosen by the draw's number. A row a place,
draw and seed: classes (nobody but the row looks at them), the advice and its range, whether clusters are seen, each
vote, and the processor's seconds.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ccscale.errors import InputError
from ccscale.evaluate.advice import advise_rows
from ccscale.evaluate.evaluate import TABLE
from ccscale.evaluate.feature_subset import FILE, choose_rows
from ccscale.evaluate.table import read_table
from ccscale.features.listing import LISTING
from ccscale.features.store import open_features

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

from ccscale.array_types import Int64

ROWS = 6000  # of a made-up place


def read(place: str, seed: int) -> tuple[Callable[[Int64], Any], Int64]:
    """Return what takes rows of a place, and the class of each row, -1 where it is not known."""
    generator = np.random.default_rng(seed)
    made: dict[str, Callable[[], Any]] = {
        "blob": lambda: generator.normal(size=(ROWS, 32)),
        "cube": lambda: generator.uniform(size=(ROWS, 16)),
        "sphere": lambda: generator.normal(size=(ROWS, 64)),  # rows are scaled to length 1
    }
    path = Path(place)
    if place in made:
        return made[place]().__getitem__, np.full(ROWS, -1)
    if (path / LISTING).exists():
        features = open_features(path)
        good = np.flatnonzero(~features.bad)
        return lambda rows: features.take(good[rows]), features.labels[good]
    if (path / FILE).exists():
        with np.load(path / FILE) as arrays:
            kept, rows = arrays["features"], arrays["rows"]
        return kept.astype(np.float32).__getitem__, read_table(path / TABLE).labels[rows]
    if path.suffix == ".npy" and path.exists():
        array, beside = np.load(path, mmap_mode="r"), path.with_name(f"{path.stem}_y.npy")
        return array.__getitem__, np.load(beside) if beside.exists() else np.full(len(array), -1)
    raise InputError(
        f"{place} is no feature store, no run that was evaluated, no .npy file, nor one of {[*made]}"
    )


def measure(place: str, seed: int, classes: int | None, draw: int) -> dict[str, Any]:
    """Return a row."""
    take, labels = read(place, seed)
    rows = np.arange(len(labels))
    if classes is not None:
        chosen = np.random.default_rng(draw).choice(np.unique(labels[labels >= 0]), classes, replace=False)
        rows = np.flatnonzero(np.isin(labels, chosen))
    begun = time.process_time()
    advice = advise_rows(lambda most: take(rows[choose_rows(len(rows), seed, most)]), len(rows), place, seed)
    return {
        "place": place,
        "draw": draw,
        "seed": seed,
        "images": len(rows),
        "classes": len(np.unique(labels[rows][labels[rows] >= 0])) or None,
        "clusters": advice.clusters,
        "low": advice.low,
        "high": advice.high,
        "seen": advice.seen,
        "votes": {vote.criterion: vote.clusters if vote.sees else None for vote in advice.votes},
        "seconds": time.process_time() - begun,
    }


def show(row: dict[str, Any]) -> None:
    """Print a row for people."""
    said = f"{row['clusters']} ({row['low']} to {row['high']})" if row["seen"] else "none seen"
    votes = " ".join(f"{name} {clusters or '-'}" for name, clusters in row["votes"].items())
    print(
        f"{row['place']} draw {row['draw']} seed {row['seed']}: {row['images']:,} images of {row['classes']} "
        f"classes: {said}; {votes}; {row['seconds']:.0f} s",
        flush=True,
    )


def main() -> int:
    """Run the command line."""
    options = parser(__doc__)
    options.add_argument("places", nargs="+", metavar="PLACE")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--classes", type=int)
    options.add_argument("--draws", type=int, default=1)
    given = options.parse_args()
    rows = []
    for place in given.places:
        for draw in range(given.draws):
            for seed in range(given.seeds):
                rows.append(measure(place, seed, given.classes, draw))
                if not given.json:
                    show(rows[-1])
    if given.json:
        tell({"rows": rows}, True, print)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
