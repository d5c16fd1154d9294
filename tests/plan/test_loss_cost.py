"""What the losses take of a rank and send, against what was measured."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.ranks import run_ranks
from measure import counted_traffic, peak_bytes
from torch import Tensor

from ccscale.config import Config, LossName
from ccscale.config.file import parse_config
from ccscale.loss import dry_run
from ccscale.plan.loss_cost import measure_losses
from ccscale.train.step import take_losses

LOSSES_TAKEN: list[tuple[int, dict[str, Any], tuple[LossName, ...]]] = [  # N, what else is set, by which
    (64, {}, ("instance",)),
    (1024, {}, ("instance",)),
    (3000, {"d": 64}, ("instance",)),  # tiles with an edge
    (3000, {"d": 64, "temperature": 0.01}, ("instance",)),  # with running maxima
    (2000, {"ring": 0}, ("instance",)),  # in a ring
    (200, {"temperature": 0.01, "ring": 0}, ("instance",)),
    (512, {"k": 10}, ("cluster",)),  # from products, in one strip
    (512, {"k": 200}, ("cluster",)),
    (1200, {"k": 600}, ("cluster",)),
    (2400, {"k": 1100}, ("cluster",)),  # in several
    (64, {"k": 1000}, ("cluster",)),  # from gathered columns
    (512, {"k": 300}, ("cluster",)),
    (512, {"k": 10}, ("instance", "cluster")),
    (512, {"k": 200}, ("instance", "cluster")),
    (256, {"k": 400}, ("instance", "cluster")),
]


def losses_config(
    images: int, d: int = 128, k: int = 10, temperature: float = 0.5, ring: int = 2**30
) -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "model": {"clusters": k, "embedding": d},
            "loss": {"instance_temperature": temperature, "ring_bytes": ring},
            "train": {"global_batch": images},
        }
    )


def losses_on_rank(rank: int, world: int) -> list[tuple[int, dict[str, int]]]:
    """Return the peak and the traffic of both passes of the losses, for each of `LOSSES_TAKEN`."""
    generator, found = torch.Generator().manual_seed(rank), []
    for images, settings, by in LOSSES_TAKEN:
        config = losses_config(images, **settings)
        widths = config.model.embedding, config.model.clusters
        z, p = (torch.randn(2 * images // world, width, generator=generator) for width in widths)
        z, p = F.normalize(z, dim=1).requires_grad_(), p.softmax(dim=1).requires_grad_()

        def both_passes(config: Config = config, z: Tensor = z, p: Tensor = p, by: Any = by) -> None:
            take_losses(config.loss, z, [p], by).loss.backward()

        with counted_traffic() as count:
            peak = peak_bytes(both_passes)
        found.append((peak, dict(count)))
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.slow
def test_losses_take_and_send_what_is_planned(world):
    for of_rank in run_ranks(world, losses_on_rank, world):
        for what, (peak, sent) in zip(LOSSES_TAKEN, of_rank, strict=True):
            images, settings, by = what
            cost = measure_losses(losses_config(images, **settings), world, False, by)
            assert cost.peak == pytest.approx(peak, rel=0.05), what
            assert dict(cost.sent) == sent, what
            assert bool(sent) == (world > 1), what


@pytest.mark.parametrize(
    ("images", "settings"),
    [
        (18_000, {}),
        (18_000, {"temperature": 0.01}),
        (18_000, {"temperature": 0.01, "ring": 0}),
        (6_000, {"k": 4096}),
    ],
)
@pytest.mark.slow
def test_what_is_alike_is_taken_a_few_times_alone(images, settings):
    config = losses_config(images, **settings)
    for by in (["instance"], ["cluster"]):
        assert measure_losses(config, 6, False, by) == measure_losses(config, 6, False, by, few=1000)


def test_a_gpu_takes_larger_tiles():
    config = losses_config(8192)
    cpu, gpu = (measure_losses(config, 1, cuda, ["instance"]) for cuda in (False, True))
    side = 8192**2 - 1024**2, 8192 - 1024  # two of each are held: tiles, and numbers for a side of one
    assert gpu.peak - cpu.peak == 2 * 4 * sum(side)
    assert gpu.sent == cpu.sent
    assert dry_run.current() is None  # as it was
