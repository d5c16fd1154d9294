"""Measures what the schedule of very large data costs a rank: time and memory, to make it and to resume in it.

    python tools/bench/schedule.py [--samples 1000000000] [--shards 100000] [--seed 0] [--json]

Shards have 8,000 to 12,000 samples in every 10,000, drawn from the seed; the global batch and the lanes are those
of a run on 4,096 ranks (see --lanes). For a rank of 4,096, of 64 and of 1, each in a process of its own:

    schedule        making the Schedule from the shards' sizes
    order           making one epoch's order
    resume          the first batch of a step in the middle of that epoch, the rank's lanes alone
    all three       the same from nothing, as the process's very first work
    next batch      a batch within blocks that are there, and the mean over a whole block
    peak            what the three hold at most (tracemalloc), and by how much the process grows (resident)

Times are CPU times, on one thread: nothing is waited for, and what else the machine does is not counted. Apart from
that it shows what the manifest of these shards costs: rank 0 reads it and sends it to the others.
"""

import json
import multiprocessing
import pickle
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ccscale.data.order.schedule import MAX_BLOCK, EpochOrder, Schedule, default_piece, owned
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from memory import resident
from tool import parser

SHARE = 16  # of a lane in a global batch
REPEATS = 5
EPOCH = 7
MB = 10**6


def shard_sizes(samples: int, shards: int, seed: int) -> tuple[int, ...]:
    """Return sizes of shards that differ by up to a fifth from their mean and sum to `samples`."""
    weights = np.random.default_rng(seed).uniform(0.8, 1.2, shards)
    bounds = np.round(np.concatenate([[0], np.cumsum(weights)]) * (samples / weights.sum()))
    return tuple(np.diff(bounds.astype(np.int64)).tolist())


def measure_rank(sizes: tuple[int, ...], seed: int, all_lanes: int, world: int) -> dict[str, float]:
    """Return one rank's figures: milliseconds and megabytes."""

    def make() -> Schedule:
        return Schedule(sizes, seed, SHARE * all_lanes, all_lanes, piece, MAX_BLOCK)

    def resume(order: EpochOrder) -> None:
        order.batch(middle, lanes)

    piece, lanes = default_piece(sizes), owned(all_lanes, world // 2, world)
    before, start = resident() / MB, time.process_time()
    schedule = make()
    middle = schedule.steps_per_epoch // 2
    order = schedule.epoch(EPOCH)
    resume(order)
    figures = {"all_three_ms": 1e3 * (time.process_time() - start), "resident_mb": resident() / MB - before}
    figures["schedule_ms"] = _milliseconds(make)
    figures["order_ms"] = _milliseconds(lambda: schedule.epoch(EPOCH))
    orders = [schedule.epoch(EPOCH) for _ in range(REPEATS)]
    figures["resume_ms"] = _milliseconds(lambda: resume(orders.pop()))

    steps = MAX_BLOCK // schedule.share
    first = middle // steps * steps  # of a block
    order.batch(first, lanes)
    figures["next_batch_ms"] = _milliseconds(lambda: order.batch(first + 1, lanes))
    start = time.process_time()
    for step in range(first + steps, first + 2 * steps):
        order.batch(step, lanes)
    figures["mean_batch_ms"] = 1e3 * (time.process_time() - start) / steps

    tracemalloc.start()
    resume(make().epoch(EPOCH))
    figures["peak_mb"] = tracemalloc.get_traced_memory()[1] / MB
    return figures


def measure_manifest(sizes: tuple[int, ...], seed: int) -> dict[str, float]:
    """Return what the manifest costs: seconds and megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        shards = tuple(
            Shard(
                f"train-{i:06d}.tar",
                size,
                106_000 * size,
                sha256(f"{seed} {i}".encode()).hexdigest(),
                "train",
            )
            for i, size in enumerate(sizes)
        )
        Manifest(folder, "large", shards, (), (), {"train": 0}, {}).save()
        figures = {"file_mb": (Path(folder) / "dataset.json").stat().st_size / MB}
        del shards
        figures["load_s"] = _milliseconds(lambda: Manifest.load(folder)) / 1e3
        tracemalloc.start()
        manifest = Manifest.load(folder)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    figures |= {"held_mb": held / MB, "peak_mb": peak / MB}
    data = pickle.dumps(manifest)
    figures["pickled_mb"] = len(data) / MB
    figures["pickle_s"] = _milliseconds(lambda: pickle.dumps(manifest)) / 1e3
    figures["unpickle_s"] = _milliseconds(lambda: pickle.loads(data)) / 1e3
    figures["digest_s"] = _milliseconds(lambda: manifest.digest(["train"])) / 1e3
    return figures


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=10**9)
    options.add_argument("--shards", type=int, default=10**5)
    options.add_argument("--lanes", type=int, default=4096, help="(%(default)s)")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    least = 4 * args.lanes * MAX_BLOCK  # four blocks a lane
    if not (args.samples >= least and 0 < args.shards <= args.samples):
        options.error(f"--samples must be at least {least}, and --shards from 1 to --samples")
    sizes = shard_sizes(args.samples, args.shards, args.seed)
    worlds = sorted({args.lanes, min(64, args.lanes), 1}, reverse=True)
    ranks = {world: _alone(measure_rank, sizes, args.seed, args.lanes, world) for world in worlds}
    manifest = _alone(measure_manifest, sizes, args.seed)
    if args.json:
        settings = {"samples": args.samples, "shards": args.shards, "seed": args.seed}
        settings |= {"global_batch": SHARE * args.lanes, "lanes": args.lanes, "block": MAX_BLOCK}
        print(json.dumps(settings | {"ranks": ranks, "manifest": manifest}))
        return 0
    piece = default_piece(sizes)
    print(
        f"{args.samples:,} samples in {args.shards:,} shards, global batch {SHARE * args.lanes:,}, "
        f"{args.lanes:,} lanes, blocks of {MAX_BLOCK}, pieces of {piece or 'whole shards'}; median of {REPEATS}\n"
    )
    titles = {
        "schedule_ms": "schedule ms",
        "order_ms": "order ms",
        "resume_ms": "resume ms",
        "all_three_ms": "all three ms",
        "next_batch_ms": "next batch ms",
        "mean_batch_ms": "mean batch ms",
        "peak_mb": "peak MB",
        "resident_mb": "resident MB",
    }
    print("ranks  lanes each  " + "  ".join(titles.values()))
    for world, figures in ranks.items():
        cells = "  ".join(f"{figures[key]:{len(title)}.2f}" for key, title in titles.items())
        print(f"{world:5}  {args.lanes // world:10}  {cells}")
    print(
        "\nmanifest: {file_mb:.1f} MB, read and checked in {load_s:.2f} s, holds {held_mb:.0f} MB (peak "
        "{peak_mb:.0f} MB), pickled {pickled_mb:.1f} MB in {pickle_s:.2f} s, unpickled in {unpickle_s:.2f} s, "
        "digest {digest_s:.2f} s".format(**manifest)
    )
    return 0


def _alone(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Measure in a fresh process: its memory is its own, its first work is really its first."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def _milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of `REPEATS` calls."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
