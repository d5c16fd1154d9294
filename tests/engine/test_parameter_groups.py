"""A head that a step does not train stays as it is, as in torch, where what has no gradient is passed over."""

from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from harness.steps import batch_of, network_of
from torch import Tensor

from ccscale.config import Config, LossName
from ccscale.config.file import parse_config
from ccscale.data.images.colour import apply_colour
from ccscale.engine.build import build_engine
from ccscale.engine.parameter_groups import parameter_groups
from ccscale.loss import cluster_loss, instance_loss
from ccscale.train.step import Stepper

pytestmark = [pytest.mark.dist, pytest.mark.slow]

N, SIZE = 8, 32
TWO_PHASES = [{"splits": ["u"], "losses": ["instance"]}, {"splits": ["t"]}]
# Twice through both phases: a head that is passed over late has moments, and one that comes late has none yet.
STEPS: list[tuple[LossName, ...]] = [("instance",), ("instance", "cluster"), ("instance",)] * 2

Found = tuple[list[tuple[float, float | None, float | None]], dict[str, Tensor]]


def config_of(
    zero: int = 1,
    precision: str = "fp64",
    micro_batch: int | None = None,
    weights: tuple[float, float] = (1, 1),
    phases: Any = TWO_PHASES,
) -> Config:
    return parse_config(
        {
            "seed": 3,
            "data": {"shards": "-", "phases": phases},
            "views": {"size": SIZE},
            "model": {"backbone": "test_convnext", "clusters": 5},
            "loss": {"instance_weight": weights[0], "cluster_weight": weights[1]},
            "train": {
                "global_batch": N,
                "zero": zero,
                "precision": precision,
                "micro_batch": micro_batch,
                "lr": 0.01,
                "weight_decay": 0.1,  # moves what has a gradient of zeros, too
            },
        }
    )


def test_what_a_backbone_has_fixed_is_in_no_group() -> None:
    config = config_of()
    network = network_of(config)
    fixed = next(network.backbone.parameters()).requires_grad_(False)
    grouped = {id(parameter) for group in parameter_groups(config, network) for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in network.parameters()} - {id(fixed)}


def engine_steps(
    rank: int, world: int, cases: list[tuple[Config, list[tuple[LossName, ...]]]]
) -> list[Found]:
    """Train from the start by each config; return the losses and the weights."""
    found = []
    for config, by_step in cases:
        network = network_of(config)
        stepper = Stepper(config, build_engine(config, network, torch.device("cpu")), torch.device("cpu"))
        losses = []
        for step, by in enumerate(by_step):
            taken, _ = stepper.take(batch_of(config, step, rank, world), by)
            losses.append(tuple(None if loss is None else float(loss) for loss in taken))
        found.append((losses, {name: p.detach().clone() for name, p in network.named_parameters()}))
    return found  # type: ignore[return-value]


def torch_steps(config: Config, by_step: list[tuple[LossName, ...]]) -> Found:
    """The same in plain torch: one process, float64, autograd, zero_grad and Adam."""
    network = network_of(config).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.1)
    weights = {"instance": config.loss.instance_weight, "cluster": config.loss.cluster_weight}
    losses = []
    for step, by in enumerate(by_step):
        batch = batch_of(config, step)
        outputs = network(
            apply_colour(batch.images.flatten(0, 1), batch.colour.flatten(), config.views, torch.float64)
        )
        parts = {}
        if "instance" in by:
            parts["instance"] = instance_loss(*outputs.embeddings.chunk(2))
        if "cluster" in by:
            parts["cluster"] = cluster_loss(*outputs.assignments.chunk(2))
        loss = sum(weights[name] * part for name, part in parts.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken = [loss, parts.get("instance"), parts.get("cluster")]
        losses.append(tuple(None if loss is None else loss.item() for loss in taken))
    return losses, {name: p.detach().clone() for name, p in network.named_parameters()}  # type: ignore[return-value]


def check_same(found: Found, expected: Found, tolerance: float) -> None:
    for these, those in zip(found[0], expected[0], strict=True):
        assert [loss is None for loss in these] == [loss is None for loss in those]
        pairs = [(a, b) for a, b in zip(these, those, strict=True) if b is not None]
        assert all(a == pytest.approx(b, rel=tolerance) for a, b in pairs)
    for name, value in expected[1].items():
        # Adam's first steps are the sign of the gradient, however small it is: a weight's error can be larger.
        assert torch.allclose(found[1][name].double(), value, rtol=0, atol=100 * tolerance), name


CASES = {  # world, config, steps, tolerance
    "zero 1": (1, config_of(1), STEPS, 1e-9),
    "zero 1, 2 ranks": (2, config_of(1), STEPS, 1e-9),
    "zero 2, 2 ranks, in micro-batches": (2, config_of(2, micro_batch=4), STEPS, 1e-9),
    "weights": (2, config_of(1, weights=(0.5, 2)), STEPS, 1e-9),
    "instance head alone": (2, config_of(1, weights=(1, 0), phases=None), [("instance",)] * 3, 1e-9),
    "cluster head alone": (2, config_of(2, weights=(0, 3), phases=None), [("cluster",)] * 3, 1e-9),
    "cluster head alone, in micro-batches": (
        2,
        config_of(1, micro_batch=4, weights=(0, 3), phases=None),
        [("cluster",)] * 3,
        1e-9,
    ),
}


@pytest.fixture(scope="module")
def found() -> dict[str, list[Found]]:
    """What each rank found, by case."""
    results = {}
    for world in (1, 2):
        names = [name for name, case in CASES.items() if case[0] == world]
        ranks = run_ranks(world, engine_steps, world, [CASES[name][1:3] for name in names])
        results |= {name: [rank[i] for rank in ranks] for i, name in enumerate(names)}
    return results


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_that_of_torch(found: dict[str, list[Found]], name: str) -> None:
    _, config, by_step, tolerance = CASES[name]
    expected = torch_steps(config, by_step)
    for of_rank in found[name]:
        check_same(of_rank, expected, tolerance)


@pytest.mark.parametrize("world", [1, 2])
def test_a_head_that_is_not_trained_does_not_move_at_all(world: int) -> None:
    """In float32, under ZeRO 0 as well: not by a bit, though Adam has moments of it."""
    before: list[tuple[LossName, ...]] = [("instance", "cluster")]
    cases = [
        (config_of(zero, "fp32", micro), before + after)
        for zero, micro in ((0, None), (0, 4), (1, None), (2, 4))
        for after in ([], [("instance",)])
    ]
    for of_rank in run_ranks(world, engine_steps, world, cases):
        for (_, first), (losses, then) in zip(of_rank[::2], of_rank[1::2], strict=True):
            assert losses[1][2] is None
            for name, value in first.items():
                assert torch.equal(then[name], value) == name.startswith("cluster_head"), name


@pytest.mark.parametrize("world", [1, 2])
def test_a_step_that_is_not_finite_in_one_group_moves_no_other(world: int) -> None:
    for found in run_ranks(world, spoilt_steps, world):
        for zero, skipped, moved in found:
            assert skipped, zero
            assert not moved, zero


def spoilt_steps(rank: int, world: int) -> list[tuple[int, bool, list[str]]]:
    """Under each ZeRO stage, take a step in which a gradient of the cluster head alone is infinite on one rank."""
    found = []
    for zero in (0, 1, 2):
        config = config_of(zero, "fp32")
        network = network_of(config)
        stepper = Stepper(config, build_engine(config, network, torch.device("cpu")), torch.device("cpu"))
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        if rank == world - 1:
            bias = list(network.cluster_head.parameters())[-1]
            bias.register_hook(lambda gradient: gradient * torch.inf)
        _, verdict = stepper.take(batch_of(config, 0, rank, world), ("instance", "cluster"))
        moved = [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]
        found.append((zero, bool(verdict.skipped > 0), moved))
    return found


def test_there_is_one_group_where_all_are_trained_in_every_step() -> None:
    def groups(config: Config) -> list[int]:
        return [len(group["params"]) for group in parameter_groups(config, network_of(config))]

    assert len(groups(config_of(phases=None))) == 1
    assert groups(config_of())[1] == 4  # the cluster head's two layers
    everywhere = [{"splits": ["u"]}, {"splits": ["t"]}]
    assert len(groups(config_of(phases=everywhere))) == 1
    assert sum(groups(config_of())) == len(list(network_of(config_of()).parameters()))
