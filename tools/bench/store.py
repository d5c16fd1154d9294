"""Makes a feature store of random numbers, and measures what is done with it: time and memory.

    python tools/bench/store.py make OUT [--rows 1000000] [--width 768] [--classes 1000] [--spread 1.5] \
        [--uneven 0] [--decay 0.5]
    python tools/bench/store.py kmeans STORE --clusters 1000 [--json]
    python tools/bench/store.py neighbours STORE --k 25 [--json]

Each row is its class's centre, drawn from a normal distribution, and `--spread` times as much of its own; column i
has the weight (i + 1)^-decay in both, as few directions carry most of what features tell. With `--uneven s` classes
have spreads of their own, log-normal with deviation s, and rows are of length 1. Many classes that overlap, where
about 42 % of a row's 25 neighbours are of its class, are made by

    --rows 100000 --width 256 --classes 200 --spread 2.75 --uneven 0.5 --decay 0.3

Memory is what the process holds for itself at most, beyond the page cache (RssAnon).
"""

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import machine
from tool import exit_code, parser, tell

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.features.feature_file import ENDING, encode, record_batch, schema, write_file
from ccscale.features.listing import ROWS, FeatureFile, ListedDataSet, Listing, Settings
from ccscale.features.store import Features, open_features
from ccscale.features.vectors import unit
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

SHARD = 2**16


def make(
    out: Path,
    rows: int,
    width: int,
    classes: int,
    spread: float,
    seed: int,
    uneven: float = 0.0,
    decay: float = 0.5,
) -> dict[str, Any]:
    """Write a store; its rows follow from the seed alone."""
    out.mkdir(parents=True)
    weights = (1 + np.arange(width, dtype=np.float32)) ** -np.float32(decay)
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((classes, width), dtype=np.float32) * weights
    spreads = np.float32(spread) * np.exp(uneven * generator.standard_normal(classes, dtype=np.float32))
    form, files, shards = schema(width, 0, "float16", {}), [], []

    def batches(first: int, count: int) -> Iterator[pa.RecordBatch]:
        for start in range(first, first + count, ROWS):
            some = min(ROWS, first + count - start)
            generator = np.random.default_rng((seed, start))
            labels = generator.integers(0, classes, some)
            own = generator.standard_normal((some, width), dtype=np.float32) * weights
            x = torch.from_numpy(centres[labels] + spreads[labels, None] * own)
            kept = encode(unit(x) if uneven else x, "float16")
            keys = [f"{row:09d}" for row in range(start, start + some)]
            yield record_batch(form, keys, labels, np.zeros(some, bool), [kept])

    for number, first in enumerate(range(0, rows, SHARD)):
        count = min(SHARD, rows - first)
        name = f"train-{number:06d}"
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        shards.append(Shard(f"{name}.tar", count, 1024 * count, sha256, "train"))
        written = write_file(out / f"{name}{ENDING}", form, batches(first, count))
        files.append(FeatureFile(name=f"{name}{ENDING}", shard=shards[-1], **vars(written)))
    names = tuple(f"class {number}" for number in range(classes))
    manifest = Manifest("nowhere", "synthetic", tuple(shards), names, names, {"train": rows}, {})
    data = ListedDataSet(
        root="nowhere", name="synthetic", splits=("train",), digest=manifest.digest(["train"]), classes=names
    )
    settings = Settings(backbone="none", weights="0" * 64, size=1)
    Listing(settings=settings, width=width, data=data, files=tuple(files), complete=True).save(out)
    return {"store": str(out), "rows": rows, "width": width}


def measured(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Call, and return what it returns, its time, and the most memory beyond the page cache."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            most[0] = max(most[0], _anonymous())

    threading.Thread(target=watch, daemon=True).start()
    begun, cpu = time.monotonic(), time.process_time()
    result = call()
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    ended.set()
    return result, {"seconds": seconds, "cpu_seconds": cpu, "megabytes": max(most[0], _anonymous()) / 1e6}


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def purity(features: Features, neighbours: int = 25, rows: int = 2000) -> float:
    """Return the share of neighbours that are of their row's class."""
    chosen = np.linspace(0, features.rows - 1, rows).astype(np.int64)
    near = features.neighbours(chosen)[:, :neighbours]
    return float((features.labels[near] == features.labels[chosen][:, None]).mean())


def cluster(store: Path, clusters: int) -> dict[str, Any]:
    """Cluster a store by k-means."""
    from ccscale.evaluate.metrics import scores
    from ccscale.features.kmeans import k_means
    from ccscale.features.vectors import Vectors

    features = open_features(store)
    with process_group(RankEnvironment(), torch.device("cpu")):  # as the command: what is freed is kept
        means, cost = measured(lambda: k_means(Vectors.of_store(features), clusters, show=True))
    figures = scores(means.clusters, features.labels, clusters)
    kept = {name: figures[name] for name in ("acc", "nmi", "ari")}
    return {
        "rows": features.rows,
        "clusters": clusters,
        "passes": means.passes,
        **cost,
        **kept,
        "machine": machine(),
    }


def neighbours(store: Path, k: int) -> dict[str, Any]:
    """Find the neighbours of a store's rows, which it does not have yet."""
    from ccscale.features.neighbours import find_neighbours

    with process_group(RankEnvironment(), torch.device("cpu")):
        facts, cost = measured(lambda: find_neighbours(open_features(store), k, device="cpu"))
    told = {name: facts.get(name) for name in ("k", "exact", "recall", "cells", "probes")}
    return {**told, **cost, "purity": purity(open_features(store), min(25, k)), "machine": machine()}


def show(result: dict[str, Any]) -> None:
    """Print a line for each figure."""
    for name, value in result.items():
        print(f"{name:12} {value:,.3f}" if isinstance(value, float) else f"{name:12} {value}")


def main() -> int:
    """Run the command line."""
    options = parser(__doc__)
    options.add_argument("what", choices=("make", "kmeans", "neighbours"))
    options.add_argument("store", type=Path, metavar="STORE")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--width", type=int, default=768)
    options.add_argument("--classes", type=int, default=1000)
    options.add_argument("--spread", type=float, default=1.5)
    options.add_argument("--uneven", type=float, default=0.0)
    options.add_argument("--decay", type=float, default=0.5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--clusters", type=int, default=1000)
    options.add_argument("--k", type=int, default=25)
    args = options.parse_args()
    if args.what == "make":
        result = make(
            args.store, args.rows, args.width, args.classes, args.spread, args.seed, args.uneven, args.decay
        )
    elif args.what == "kmeans":
        result = cluster(args.store, args.clusters)
    else:
        result = neighbours(args.store, args.k)
    tell(result, args.json, show)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
