"""Measures what the figures of very many assignments cost: time and memory.

    python tools/bench/metrics.py [--images 100000000] [--clusters 10000] [--classes 1000] [--json]

Assignments come in chunks of a million, drawn from the seed: seven of ten images are in one of their class's own
clusters, the others anywhere, so that nearly every cell of the table is filled, the worst case. Counted in a
process of its own:

    counting          all chunks
    acc … f           each figure, from the table
    per cluster       sizes, majority, purity, entropy of every cluster, and the matching
    peak              by how much the process grows, resident

Times are CPU times, on one thread; drawing the chunks is not counted. On the first million images the figures are
compared with scikit-learn's (ACC: with SciPy's matching of the dense table).
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ccscale.evaluate import metrics
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.tally import Tally

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import processor
from memory import forget_peak, peak, resident
from tool import parser

CHUNK = 1_000_000
FIGURES: dict[str, Callable[[Contingency], float]] = {
    "acc": metrics.accuracy,
    "purity": metrics.purity,
    "nmi": metrics.normalized_mutual_information,
    "ari": metrics.adjusted_rand_index,
    "f": metrics.pairwise_f,
}


def chunks(
    images: int, clusters: int, classes: int, seed: int
) -> Iterator[tuple[metrics.Int64, metrics.Int64]]:
    """Yield (clusters, labels) of up to `CHUNK` images each."""
    rng = np.random.default_rng(seed)
    own = max(1, clusters // classes)
    for start in range(0, images, CHUNK):
        count = min(CHUNK, images - start)
        labels = rng.integers(0, classes, count)
        home = (labels * own + rng.integers(0, own, count)) % clusters
        found = np.where(rng.random(count) < 0.7, home, rng.integers(0, clusters, count))
        yield found, labels


def measure(images: int, clusters: int, classes: int, seed: int) -> dict[str, Any]:
    """Return seconds, megabytes and figures."""
    next(chunks(1, clusters, classes, seed))
    forget_peak()
    before = resident()
    tally = Tally(clusters)
    table = tally.table
    seconds: dict[str, float] = {"counting": 0.0}
    for found, labels in chunks(images, clusters, classes, seed):
        begun = time.process_time()
        tally.sizes += np.bincount(found, minlength=clusters)
        table.add(found, labels)
        seconds["counting"] += time.process_time() - begun
    values: dict[str, float] = {}
    for name, figure in FIGURES.items():
        begun = time.process_time()
        values[name] = figure(table)
        seconds[name] = time.process_time() - begun
    begun = time.process_time()
    tally.per_cluster()
    seconds["per cluster"] = time.process_time() - begun
    return {
        "seconds": seconds,
        "megabytes": (peak() - before) / 1e6,
        "cells": len(table.cells().counts),
        **values,
    }


def compare(images: int, clusters: int, classes: int, seed: int) -> dict[str, float]:
    """Return by how much each figure differs from that of scikit-learn."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

    found, labels = next(chunks(min(images, CHUNK), clusters, classes, seed))
    array = contingency_matrix(labels, found)
    matched = array[linear_sum_assignment(array, maximize=True)].sum() / len(labels)
    (_, in_cluster), (in_class, both) = pair_confusion_matrix(labels, found).tolist()
    expected = {
        "acc": matched,
        "purity": array.max(axis=0).sum() / len(labels),
        "nmi": normalized_mutual_info_score(labels, found),
        "ari": adjusted_rand_score(labels, found),
        "f": 2 * both / (2 * both + in_cluster + in_class),
    }
    table = Contingency.of(found, labels, clusters)
    return {name: abs(figure(table) - float(expected[name])) for name, figure in FIGURES.items()}


def alone(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own: a copy, whose growth alone is told."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> int:
    """Run the command line."""
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=100_000_000)
    options.add_argument("--clusters", type=int, default=10_000)
    options.add_argument("--classes", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    data = (args.images, args.clusters, args.classes, args.seed)
    found = alone(measure, *data)
    result = {**vars(args), "processor": processor(), **found, "differences": alone(compare, *data)}
    del result["json"]
    if args.json:
        print(json.dumps(result))
        return 0
    print(
        f"{args.images:,} images, {args.clusters:,} clusters, {args.classes:,} classes, "
        f"{found['cells']:,} cells filled; {processor()}"
    )
    for row, seconds in found["seconds"].items():
        print(f"{row:14}{seconds:12.2f} s")
    print(f"{'peak':14}{found['megabytes']:11.0f} MB")
    for name, difference in result["differences"].items():
        print(f"{name:14}{found[name]:14.6f}   from scikit-learn's by {difference:.1e} (a million images)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
