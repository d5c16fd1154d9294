#!/usr/bin/env python
"""What a training step costs beside a bare PyTorch loop's, and where its time goes.

The same network, views and losses, data in memory, one process: DeepSpeed's engine (ZeRO 0) in ccscale's `Stepper`
against forward, backward and Adam in four lines. The two take turns, so that noise meets both alike; the ratio is
the median of the turns' own ratios. Then a few real steps, fed by a loader from shards, by their parts.

    python tools/bench/step.py SHARDS [key=value ...]      any config key, as model.backbone=resnet34 views.size=96
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from ccscale import dist
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.colour import apply_colour
from ccscale.data.loader import default_workers
from ccscale.data.order.run import make_schedule
from ccscale.data.pairs import PairBatch, pair_batches
from ccscale.data.shards.manifest import Manifest
from ccscale.device import pick_device
from ccscale.engine.build import build_engine
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import ContrastiveClustering
from ccscale.process_group import process_group
from ccscale.progress import Meter
from ccscale.rank_environment import RankEnvironment
from ccscale.train.feed import on_device
from ccscale.train.step import Stepper

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

PARTS = ("views", "forward", "losses", "backward", "optimizer")


class BareLoop:
    """The step as one would write it without an engine."""

    def __init__(self, config: Config, network: ContrastiveClustering, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = network.to(device).to(memory_format=torch.channels_last)
        train = config.train
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True
        )

    def take(self, batch: PairBatch) -> Tensor:
        images = batch.images.flatten(0, 1)
        views = apply_colour(images, batch.colour.flatten(), self.config.views)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16"):
            outputs = self.network(views.contiguous(memory_format=torch.channels_last))
        (z_a, z_b), (p_a, p_b) = outputs.embeddings.chunk(2), outputs.assignments.chunk(2)
        loss = instance_loss(z_a, z_b) + cluster_loss(p_a, p_b)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="a data set in shards")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the run")
    options.add_argument("--turns", type=int, default=15, help="steps of each kind (default: %(default)s)")
    args = options.parse_args()
    settings = {
        "data": {"shards": args.shards},
        "views": {"size": 64},
        "model": {"backbone": "resnet18", "clusters": 10},
        "train": {"global_batch": 64},
    }

    def compare() -> int:
        config = parse_config(settings, args.overrides)
        device = pick_device(config.train.device)
        with process_group(RankEnvironment(), device):
            tell(measure(config, device, args.turns), args.json, show)
        return 0

    return exit_code(compare)


def measure(config: Config, device: torch.device, turns: int) -> dict[str, Any]:
    """Compare the two steps on data in memory, then take real steps apart."""
    manifest = Manifest.load(config.data.place)
    schedule = make_schedule(config, manifest.select(config.data.splits), dist.world())
    workers = default_workers() if config.data.workers is None else config.data.workers
    steps = 3 + 2 * turns
    batches = pair_batches(manifest, config.data.splits, schedule, config.views, 0, steps, workers=workers)
    batch = on_device(next(batches), device)

    def network() -> ContrastiveClustering:
        torch.manual_seed(config.seed)
        return ContrastiveClustering(config.model, config.views.size)

    bare = BareLoop(config, network(), device)
    stepper = Stepper(config, build_engine(config, network(), device), device)
    with Meter("measuring", 2 * turns, "turns", show=True) as meter:
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(turns + 2):
            pair = [(stepper, ours), (bare, theirs)]
            for taker, seconds in pair if turn % 2 else reversed(pair):
                seconds.append(timed(taker, batch, device))
            if turn >= 2:  # the first ones allocate and compile
                meter.advance()
        del ours[:2], theirs[:2]
        profiler, waits, seconds = torch.profiler.profile(), [], []
        with profiler:
            for _ in range(turns):
                begun = time.perf_counter()
                batch = on_device(next(batches), device)
                waits.append(time.perf_counter() - begun)
                seconds.append(waits[-1] + timed(stepper, batch, device))
                meter.advance()
    spent = {event.key: event.cpu_time_total / 1e6 for event in profiler.key_averages()}
    total = sum(seconds)
    shares = {"loader wait": sum(waits) / total} | {part: spent.get(part, 0.0) / total for part in PARTS}
    return {
        "backbone": config.model.backbone,
        "size": config.views.size,
        "global_batch": config.train.global_batch,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ccscale_ms": 1000 * statistics.median(ours),
        "bare_ms": 1000 * statistics.median(theirs),
        "images_per_second": config.train.global_batch / statistics.median(ours),
        "shares": shares | {"other": 1 - sum(shares.values())},
    }


def timed(taker: Any, batch: PairBatch, device: torch.device) -> float:
    """Return the seconds of a step."""
    begun = time.perf_counter()
    taker.take(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    console = Console()
    keys = ("backbone", "size", "global_batch", "device", "threads", "torch")
    console.print(", ".join(f"{key} {found[key]}" for key in keys), highlight=False)
    console.print(
        f"a step: {found['ccscale_ms']:.1f} ms, {found['images_per_second']:.0f} images/s; "
        f"{found['ratio']:.3f} times a bare loop's {found['bare_ms']:.1f} ms",
        highlight=False,
    )
    table = Table("part of a real step", Column("share", justify="right"))
    for part, share in found["shares"].items():
        table.add_row(part, f"{100 * share:.1f} %")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
