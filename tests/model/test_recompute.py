"""A step with gradient checkpointing is the step without: the same draws, statistics that move once."""

from typing import Any

import pytest
import torch
from harness.configs import refusal
from harness.ranks import run_ranks
from harness.steps import batch_of, config_of, network_of
from torch import Tensor

from ccscale.engine.build import build_engine
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering
from ccscale.train.step import Stepper

CASES: dict[int, list[tuple[str, dict[str, Any]]]] = {  # by world: backbone, settings
    1: [
        ("test_resnet", {"zero": 0, "precision": "fp32"}),
        ("test_convnext", {"zero": 1, "model": {"drop_path": 0.5}}),
        ("test_vit", {"zero": 0, "precision": "bf16", "model": {"drop_path": 0.3, "dropout": 0.2}}),
        ("test_resnet", {"zero": 1, "micro_batch": 4, "model": {"freeze": 1}}),
    ],
    2: [("test_resnet", {"zero": 2, "micro_batch": 4, "model": {"drop_path": 0.5}})],
}


def train(rank: int, world: int, backbone: str, settings: dict[str, Any]) -> dict[str, Tensor]:
    settings = {"micro_batch": None} | settings
    config = config_of(backbone, **settings)
    network = network_of(config)
    stepper = Stepper(config, build_engine(config, network, torch.device("cpu")), torch.device("cpu"))
    for step in range(3):
        _, verdict = stepper.take(batch_of(config, step, rank, world))
        assert not verdict.skipped
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def both(rank: int, world: int) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    found = []
    for backbone, settings in CASES[world]:
        checkpointed = settings | {"model": settings.get("model", {}) | {"grad_checkpointing": True}}
        found.append((train(rank, world, backbone, settings), train(rank, world, backbone, checkpointed)))
    return found


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("world", CASES)
def test_the_steps_are_the_same_to_the_bit(world: int) -> None:
    for of_rank in run_ranks(world, both, world):
        for (backbone, _), (plain, checkpointed) in zip(CASES[world], of_rank, strict=True):
            assert plain.keys() == checkpointed.keys()
            for name, value in plain.items():
                assert torch.equal(checkpointed[name], value), (backbone, name)


def kept(network: ContrastiveClustering) -> int:
    """Return the numbers that a pass keeps for the way back."""
    count, images = 0, torch.rand(4, 3, 32, 32)

    def pack(value: Tensor) -> Tensor:
        nonlocal count
        count += value.numel()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        network(images)
    return count


def test_less_is_kept_and_an_evaluation_is_the_same() -> None:
    plain, checkpointed = (
        network_of(config_of("test_vit", None, model={"grad_checkpointing": on})) for on in (False, True)
    )
    assert kept(checkpointed) < kept(plain) / 2
    assert (
        torch.utils.checkpoint.checkpoint.__module__ == "torch.utils.checkpoint"
    )  # the pass has put it back
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(plain.eval().predict(images)[1], checkpointed.eval().predict(images)[1])


@pytest.mark.parametrize("backbone", ["dla34", "sequencer2d_s"])
def test_a_backbone_that_is_not_checkpointed_is_refused(backbone: str) -> None:
    with pytest.raises(InputError) as caught:
        network_of(config_of(backbone, None, model={"grad_checkpointing": True}))
    assert (
        str(caught.value)
        == f"timm does not support gradient checkpointing for '{backbone}': leave model.grad_checkpointing out"
    )


def test_a_compiled_backbone_is_refused() -> None:
    told = "train.compile and model.grad_checkpointing cannot be combined"
    assert told in refusal("train.compile=true", "model.grad_checkpointing=true")
