#!/usr/bin/env python
"""What embedding costs beside the bare forward pass, and how fast a store is read.

The same backbone, batch and threads, in turns, so that noise meets both alike; ratios are medians of the turns.
``in memory``: decoded images in memory become features, rounded, checked and written as a part of a store, against
forward passes alone. ``from shards``: the same from tars, with loader processes. Then a store of random numbers,
float16, is read on one core: rows in random order as training draws them, and one after the other.

    python tools/bench/embedding.py SHARDS [--backbone NAME] [--size PIXELS] [--threads N] [--rows N] [--width D]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ccscale.config import Model
from ccscale.data.images.colour import to_float
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.whole_images import whole_batches
from ccscale.embed.backbone import Backbone, backbone_of_timm
from ccscale.embed.embed import EmbedOptions
from ccscale.embed.features import Embedder
from ccscale.embed.opening import open_store
from ccscale.embed.parts_store import PartsStore
from ccscale.features.feature_file import record_batch, schema, write_file
from ccscale.features.listing import FeatureFile, ListedDataSet, Listing, Settings
from ccscale.features.store import Features, open_features
from ccscale.progress import Meter

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

BATCH = 64
TAKEN = 1024  # rows that are taken together


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="a data set in shards")
    options.add_argument("--backbone", default="tf_efficientnet_lite0", help="(default: %(default)s)")
    options.add_argument("--size", type=int, default=96, help="side of the images (default: %(default)s)")
    options.add_argument("--turns", type=int, default=7, help="of each kind (default: %(default)s)")
    options.add_argument("--images", type=int, default=512, help="in a turn (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    options.add_argument("--workers", type=int, default=1, help="loader processes (default: %(default)s)")
    options.add_argument("--rows", type=int, default=100_000, help="of the store (default: %(default)s)")
    options.add_argument("--width", type=int, default=768, help="of its rows (default: %(default)s)")
    args = options.parse_args()

    def measure() -> int:
        torch.set_num_threads(args.threads)
        model = Model(backbone=args.backbone, normalize=True, clusters=2)
        backbone = backbone_of_timm(model, args.size, 0, torch.device("cpu"), "random")
        with tempfile.TemporaryDirectory() as folder:
            facts = forward(backbone, args.shards, args.images, args.turns, args.workers, Path(folder))
            facts |= reading(random_store(Path(folder) / "random", args.rows, args.width), args.turns)
        tell(facts, args.json, show)
        return 0

    return exit_code(measure)


def forward(
    backbone: Backbone, shards: str, images: int, turns: int, workers: int, folder: Path
) -> dict[str, Any]:
    """Compare embedding with forward passes alone."""
    wanted = EmbedOptions(size=backbone.size, batch=BATCH)
    (folder / "store").mkdir()
    listing = open_store(folder / "store", wanted.settings(backbone), backbone, shards)
    embedder = Embedder(backbone, "float16", None, True, BATCH, workers)
    manifest = Manifest.load(shards)
    first = max(manifest.shards, key=lambda shard: shard.nsamples)
    count = min(images, first.nsamples)
    manifest, span = replace(manifest, shards=(first,)), range(count)
    batches = list(whole_batches(manifest, [first.split], backbone.size, BATCH, spans=[span]))
    floats = [to_float(batch.images).contiguous(memory_format=torch.channels_last) for batch in batches]
    store = PartsStore(folder / "store", listing.changed(block=count))
    store.begin()
    part = store.parts_of([replace(first, nsamples=count)])[0]

    mean, std = (value.expand_as(floats[0][0]) for value in (backbone.mean, backbone.std))

    @torch.inference_mode()
    def bare() -> None:
        for x in floats:
            backbone.module((x - mean) / std)

    def in_memory() -> None:
        store.write([part], embedder.embed_batches(batches))

    def from_shards() -> None:
        store.write([part], embedder.embed(manifest, [first.split], [span]))

    rates = {name: [] for name in ("bare", "in memory", "from shards")}  # type: dict[str, list[float]]
    with Meter("measuring", turns, "turns", show=True) as meter:
        for turn in range(-1, turns):
            for name, call in zip(rates, (bare, in_memory, from_shards), strict=True):
                rate = count / seconds(call)
                if turn >= 0:  # the first one allocates
                    rates[name].append(rate)
            meter.update(turn + 1)
    ratios = {
        name: statistics.median(
            ours / theirs for ours, theirs in zip(rates[name], rates["bare"], strict=True)
        )
        for name in ("in memory", "from shards")
    }
    return {
        "images_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "ratio": ratios,
    }


def random_store(folder: Path, rows: int, width: int) -> Features:
    """Write a store of random numbers, in one shard."""
    folder.mkdir()
    shard = Shard("train-000000.tar", rows, 512 * rows, "0" * 64, "train")
    form = schema(width, 0, "float16", {"bad": []})
    rng, block = np.random.default_rng(0), 1024

    def batches() -> Any:
        for start in range(0, rows, block):
            n = min(block, rows - start)
            features = rng.standard_normal((n, width), dtype=np.float32).astype(np.float16)
            keys = [f"{start + i:09d}" for i in range(n)]
            yield record_batch(form, keys, np.zeros(n, np.int64), np.zeros(n, bool), [features])

    written = write_file(folder / "train-000000.arrow", form, batches())
    manifest = Manifest("none", "random", (shard,), ("0",), ("0",), {}, {})
    Listing(
        settings=Settings(backbone="none", weights="0" * 64, size=1),
        width=width,
        data=ListedDataSet(root="none", name="random", splits=("train",), digest=manifest.digest(["train"])),
        files=(
            FeatureFile(
                name="train-000000.arrow", rows=rows, bytes=written.bytes, sha256=written.sha256, shard=shard
            ),
        ),
        complete=True,
    ).save(folder)
    return open_features(folder)


def reading(store: Features, turns: int) -> dict[str, Any]:
    """Read a store in random order and in its own, on one core."""
    torch.set_num_threads(1)
    order = np.random.default_rng(0).permutation(store.rows)

    def at_random() -> None:
        for start in range(0, store.rows, TAKEN):
            store.take(order[start : start + TAKEN])

    def in_order() -> None:
        for _ in store.blocks():
            pass

    in_order()
    return {
        "rows_per_second": {
            name: statistics.median(store.rows / seconds(call) for _ in range(turns))
            for name, call in (("at random", at_random), ("in order", in_order))
        }
    }


def seconds(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(facts: dict[str, Any]) -> None:
    """Print for people."""
    console = Console(highlight=False)
    for name, rate in facts["images_per_second"].items():
        ratio = facts["ratio"].get(name)
        console.print(f"{name}: {rate:,.0f} images a second" + (f", {ratio:.2f} of bare" if ratio else ""))
    for name, rate in facts["rows_per_second"].items():
        console.print(f"rows read {name}: {rate:,.0f} a second")


if __name__ == "__main__":
    sys.exit(main())
