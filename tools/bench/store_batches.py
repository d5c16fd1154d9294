#!/usr/bin/env python
"""How many rows of a feature store a second become pairs for the heads: gathered, made float32, checked, named.

    python tools/bench/store_batches.py STORE [pairs.of=both ...]

Batches of a run on the store are drawn, as training draws them, in one process on one thread, and nothing is done
with them. A pair is two rows. Told are rows for each second of CPU time, since what else the machine does is no
matter of the store, and for each second of the clock; the first batches, whose pages may have to be read, are left
out.
"""

import itertools
import statistics
import sys
import time
from pathlib import Path

import torch

from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.features.batches import feature_batches
from ccscale.features.pairs import PairDraw
from ccscale.features.store_config import open_run_store

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

TURNS, BATCHES = 5, 20


def measure(store: str, overrides: list[str]) -> dict[str, float]:
    """Return the medians of some turns."""
    torch.set_num_threads(1)
    settings = {"data": {"features": store}, "model": {"clusters": 2}, "train": {"global_batch": 1024}}
    config, features = open_run_store(parse_config(settings, overrides, "the options"))
    schedule = make_schedule(config, features.shards, 1)
    draw = PairDraw(features, config.pairs, config.seed, config.views.raw)
    batches = feature_batches(draw, schedule, 0, (TURNS + 1) * BATCHES)
    rows = 2 * BATCHES * config.train.global_batch
    clock, cpu = [], []
    for _ in range(TURNS + 1):
        begun = time.perf_counter(), time.process_time()
        for _ in itertools.islice(batches, BATCHES):
            pass
        clock.append(rows / (time.perf_counter() - begun[0]))
        cpu.append(rows / (time.process_time() - begun[1]))
    return {
        "width": features.width,
        "rows_a_cpu_second": statistics.median(cpu[1:]),
        "rows_a_second": statistics.median(clock[1:]),
    }


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("store", metavar="STORE", help="a feature store")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="of a run's config")
    args = options.parse_args()

    def call() -> int:
        tell(
            measure(args.store, args.overrides),
            args.json,
            lambda found: print(
                f"{found['rows_a_cpu_second']:,.0f} rows of {found['width']} numbers a second of CPU time, "
                f"{found['rows_a_second']:,.0f} a second of the clock"
            ),
        )
        return 0

    return exit_code(call)


if __name__ == "__main__":
    sys.exit(main())
