#!/usr/bin/env python
"""What a prior gives where clusters differ in size: cluster heads on long-tailed samples of a feature store.

    python tools/bench/long_tail.py STORE [--ratios 10 100] [--seeds 0 1 2] [--priors uniform none power estimated]
        [--parts 2 3] [--components 64] [key=value ...]

Of each sample the largest class has as many images as the store's smallest, and the i-th of C classes, in an order
of the seed's own, RATIO^(-i/(C-1)) times as many. A cluster head is trained on pairs of neighbours by each prior;
beside it stand spherical k-means on the same features, and that of more parts than clusters, joined. Features are
of length 1, and their first principal components, which keep it quick. Labels choose the sample, and measure;
nothing else.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from ccscale.config.file import parse_config
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.store_table import label_figures
from ccscale.features.joining import join_clusters
from ccscale.features.kmeans import k_means
from ccscale.features.store import Features, open_features
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from sample_store import write_sample
from tool import exit_code, parser, tell

SCORES = ("acc", "nmi", "ari")
STARTS = 10


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("store", metavar="STORE", help="a feature store with labels")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the runs")
    options.add_argument("--ratios", type=float, nargs="+", default=[10, 100])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--priors", nargs="*", default=["uniform", "none", "power", "estimated"])
    options.add_argument("--parts", type=int, nargs="*", default=[2, 3], help="of model.centre_parts")
    options.add_argument("--components", type=int, default=64, metavar="D", help="principal components")
    args = options.parse_args()

    def compare() -> int:
        rows = measure(
            args.store, args.ratios, args.seeds, args.priors, args.overrides, args.components, args.parts
        )
        tell(rows, args.json, show)
        return 0

    return exit_code(compare)


def measure(
    store: str,
    ratios: Sequence[float],
    seeds: Sequence[int],
    priors: Sequence[str],
    overrides: Sequence[str],
    components: int,
    parts: Sequence[int],
) -> list[dict[str, Any]]:
    """Return a row of scores for each sample and prior, and of k-means."""
    features, found = open_features(store), []
    for ratio in ratios:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows = long_tail(features.labels, ratio, seed)
                labels, kept = features.labels[rows], reduced(features, rows, components)
                classes, scores = len(set(labels.tolist())), {}
                for many in (1, *parts):
                    means = k_means(kept, many * classes, seed, spherical=True, starts=STARTS)
                    clusters = join_clusters(means, classes)[means.clusters]
                    way = f"k-means, {many} parts" if many > 1 else "k-means"
                    scores[way] = label_figures(clusters, labels, classes)
                sample = write_sample(features, rows, [kept], Path(folder, "store")) if priors else features
                for prior in priors:
                    run = Path(folder, prior)
                    scores[prior] = train(sample, classes, run, prior, seed, overrides)
            for way, figures in scores.items():
                found.append(
                    {"ratio": ratio, "seed": seed, "images": len(rows), "prior": way}
                    | {name: figures[name] for name in SCORES}
                )
                print(found[-1], file=sys.stderr, flush=True)
    return found


def long_tail(labels: NDArray[np.int64], ratio: float, seed: int) -> NDArray[np.int64]:
    """Return the rows of a sample, rising."""
    draw = np.random.default_rng(seed)
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    rows = []
    for place, label in enumerate(draw.permutation(classes)):
        count = int(sizes.min() * ratio ** (-place / (len(classes) - 1)))
        rows.append(draw.choice(np.flatnonzero(labels == label), count, replace=False))
    return np.sort(np.concatenate(rows))


def reduced(features: Features, rows: NDArray[np.int64], components: int) -> NDArray[np.float32]:
    """Return principal components of some rows, of length 1."""
    whole = normalize(features.take(rows))
    kept = normalize(PCA(components, random_state=0).fit_transform(whole))
    return kept.astype(np.float32)


def train(
    sample: Features, classes: int, run: Path, prior: str, seed: int, overrides: Sequence[str]
) -> dict[str, Any]:
    """Train a cluster head and return the figures of its evaluation."""
    settings = {
        "run": str(run),
        "seed": seed,
        "data": {"features": str(sample.folder)},
        "pairs": {"of": "neighbours", "neighbours": 25},
        "model": {"clusters": classes, "head_width": 128},
        "loss": {"instance_weight": 0, "prior": prior},
        "train": {"global_batch": 512, "epochs": 40, "lr": 0.001, "device": "cpu"},
        "evaluate": {"every": 0},
    }
    train_run(parse_config(settings, overrides))
    return evaluate_run(run, probe=False, device="cpu") or {}


def show(rows: list[dict[str, Any]]) -> None:
    """Print mean and spread over the seeds."""
    table = Table("sample", "prior", *(Column(name.upper(), justify="right") for name in SCORES))
    for ratio in dict.fromkeys(row["ratio"] for row in rows):
        for way in dict.fromkeys(row["prior"] for row in rows):
            chosen = [row for row in rows if (row["ratio"], row["prior"]) == (ratio, way)]
            values = [np.array([row[name] for row in chosen]) for name in SCORES]
            table.add_row(f"{ratio:g}:1", way, *(f"{of.mean():.3f} ± {of.std():.3f}" for of in values))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
