"""Memory and communication of the losses, without their inputs, measured on a step (`meter.py`).

Tiles, strips of S and the rows of other ranks are processed one after the other, and each costs the same, so the
first few suffice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ccscale.config import LOSSES, Config, Loss, LossName
from ccscale.data.images.views import VIEWS
from ccscale.engine.build import weight_dtype
from ccscale.loss.dry_run import dry_run
from ccscale.plan.meter import CostMeter, fake_ranks
from ccscale.train.step import take_losses

FEW = 3  # a tile of rows with themselves, one with others, one while what that took is still there


@dataclass(frozen=True)
class LossCost:
    """Bytes on one rank.

    Attributes
    ----------
    peak
        The most that is held at any moment of both passes, with the gradients to the inputs.
    sent, calls
        Payload by collective, and in how many calls.
    """

    peak: int
    sent: Counter[str]
    calls: Counter[str]


def measure_losses(
    config: Config, world: int, cuda: bool, by: Sequence[LossName] = LOSSES, few: int = FEW
) -> LossCost:
    """Take the losses of a batch of a run, and their gradients.

    Parameters
    ----------
    config
        The run's config; `world` ranks divide its global batch.
    world
        Number of ranks.
    cuda
        Whether tiles have the size for a GPU; what is fused there takes less.
    by
        Which losses.
    few
        How many of what is alike are taken.
    """
    rows = VIEWS * config.train.global_batch // world
    kind = weight_dtype(config.train)
    widths = config.model.embedding, config.model.trained_clusters
    return _measure(config.loss, rows, *widths, kind, world, cuda, tuple(by), few)


@cache
def _measure(
    settings: Loss,
    rows: int,
    d: int,
    clusters: tuple[int, ...],
    kind: torch.dtype,
    world: int,
    cuda: bool,
    by: tuple[LossName, ...],
    few: int,
) -> LossCost:
    with fake_ranks(world), FakeTensorMode(), dry_run(few, cuda):
        z, *heads = (torch.empty(rows, width, dtype=kind, requires_grad=True) for width in (d, *clusters))
        targets, shares = [torch.empty_like(p) for p in heads], torch.empty(sum(clusters), dtype=kind)
        meter = CostMeter([z, *heads, *targets, shares])
        with meter:
            take_losses(settings, z, heads, by, targets, shares).loss.backward()
    rounds = min(world - 1, few + 1)  # of the ring that were taken: it is one ahead
    if rounds:
        for count in (meter.sent, meter.calls):
            count["send"] = count["send"] // rounds * (world - 1)
    return LossCost(meter.most, +meter.sent, meter.calls)
