#!/usr/bin/env python
"""What a step of the self-labelling costs beside a step of the training before it.

The same network and data in memory, one process. Three things take turns, so that noise meets all alike: a training
step of two views; the look at the images as they are, one more forward pass of half as many views; a step of the
self-labelling, which is both, with labels given and taken and losses by labels. Ratios are medians over the turns,
and on a CPU of processor seconds.

    python tools/bench/boost.py SHARDS [key=value ...]     any config key, as model.backbone=resnet34 views.size=96
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ccscale import dist
from ccscale.config import LOSSES, Config
from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import Triples, pair_batches
from ccscale.data.shards.manifest import Manifest
from ccscale.device import pick_device
from ccscale.engine.build import build_engine
from ccscale.model.network import ContrastiveClustering
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.boost.stage import BoostStage
from ccscale.train.feed import on_device
from ccscale.train.step import Stepper

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

SETTINGS = {
    "views": {"size": 32},
    "model": {"backbone": "resnet10t", "clusters": 10},
    "train": {"global_batch": 128, "epochs": 1},
    "stages": {"boost": {"epochs": 2, "threshold": 0.1}},
}


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="a data set in shards")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the run")
    options.add_argument("--turns", type=int, default=20, help="steps of each kind (default: %(default)s)")
    args = options.parse_args()

    def compare() -> int:
        config = parse_config({**SETTINGS, "data": {"shards": args.shards, "workers": 0}}, args.overrides)
        device = pick_device(config.train.device)
        with process_group(RankEnvironment(), device):
            tell(measure(config, device, args.turns), args.json, show)
        return 0

    return exit_code(compare)


def measure(config: Config, device: torch.device, turns: int) -> dict[str, Any]:
    """Let the three take turns on one batch."""
    manifest = Manifest.load(config.data.place)
    shards = manifest.select(config.data.splits)
    schedule = make_schedule(config, shards, dist.world())
    steps = BoostSteps.of(config, schedule)
    triples = Triples(BoostSteps(0, 0, 1), config.views, config.views)  # the same views as of a training step
    batches = pair_batches(manifest, config.data.splits, schedule, config.views, 0, 1, triples=triples)
    batch = replace(on_device(next(batches), device), step=steps.begin)
    torch.manual_seed(config.seed)
    engine = build_engine(config, ContrastiveClustering(config.model, config.views.size), device)
    stepper = Stepper(config, engine, device)
    images = sum(shard.nsamples for shard in shards)
    stage = BoostStage(config, steps, stepper, lambda step: images, {})
    takers: dict[str, Callable[[], Any]] = {
        "training step": lambda: stepper.take(batch, LOSSES),
        "look": lambda: stepper.look(batch),
        "self-labelling step": lambda: stage.take(batch, LOSSES, config.boost_lr),
    }
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for turn in range(turns + 2):
        for name in list(takers) if turn % 2 else reversed(takers):
            seconds[name].append(timed(takers[name], device))
    step, look, boosted = (each[2:] for each in seconds.values())  # the first ones allocate
    return {
        "backbone": config.model.backbone,
        "size": config.views.size,
        "global_batch": config.train.global_batch,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "ratio": statistics.median(c / (a + b) for a, b, c in zip(step, look, boosted, strict=True)),
        "ratio_to_training": statistics.median(c / a for a, c in zip(step, boosted, strict=True)),
        **{f"{name} (ms)": 1000 * statistics.median(each[2:]) for name, each in seconds.items()},
    }


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Return the processor seconds of a call; on a GPU those of the clock."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begun = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    console = Console(highlight=False)
    for name, value in found.items():
        console.print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
