"""What the network takes of a rank, against what was measured."""

from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from measure import peak_bytes
from torch import Tensor

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.network_cost import Network

NETWORKS = [("resnet18", "fp32"), ("resnet18", "bf16"), ("vit_tiny_patch16_224", "fp32")]


def network_config(backbone: str = "resnet18", precision: str = "fp32") -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "views": {"size": 64},
            "model": {"backbone": backbone, "clusters": 10},
            "train": {"global_batch": 32, "precision": precision},
        }
    )


def network_on_rank(rank: int) -> list[int]:
    """Return the peak of a real forward and backward pass, gradients counted, of each of `NETWORKS`."""
    found = []
    for backbone, precision in NETWORKS:
        network = ContrastiveClustering(network_config(backbone).model, 64).to(
            memory_format=torch.channels_last
        )
        x = torch.rand(32, 3, 64, 64)

        def both_passes(network: Any = network, x: Tensor = x, precision: str = precision) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = network(x.contiguous(memory_format=torch.channels_last))
            (outputs.embeddings.sum() + outputs.assignments.sum()).backward()

        found.append(peak_bytes(both_passes))
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.slow
def test_network_takes_what_is_planned_without_numbers(world):
    measured, *_ = run_ranks(world, network_on_rank)
    for (backbone, precision), peak in zip(NETWORKS, measured, strict=True):
        network = Network(network_config(backbone, precision), world, "cpu")
        cost, there = network.measure(32), network.measure(64)
        assert cost.most_with_gradients == pytest.approx(peak, rel=0.1), (backbone, precision)
        assert cost.kept < cost.most < cost.most_with_gradients
        assert cost.scaled(there, 128).kept == pytest.approx(network.measure(128).kept, rel=0.01)
        if backbone == "resnet18":
            assert cost.weights == 11_176_512 + 2 * (512 * 512 + 512) + 512 * 128 + 128 + 512 * 10 + 10
            assert (cost.gathered, cost.summed) == (
                (world * 2 * 4 * 4800, 2 * 4 * 4800) if world > 1 else (0, 0)
            )


def test_several_gpus_take_what_one_takes():
    """Wherever it is planned: batch norm over ranks takes no more memory there."""
    one, two = (Network(network_config("test_resnet"), world, "cuda").measure(32) for world in (1, 2))
    assert (two.kept, two.most) == (pytest.approx(one.kept, rel=0.01), pytest.approx(one.most, rel=0.01))


@pytest.mark.slow
def test_parameters_that_are_not_trained():
    """timm fixes four of this one's where it has no classifier."""
    network = Network(network_config("efficientvim_m1"), 1, "cpu")
    assert network.measure(2).most_with_gradients > network.measure(2).most > 0


def test_what_is_frozen_has_no_gradients_and_keeps_no_activations():
    config = network_config("resnet18")
    costs = {
        freeze: Network(
            config.model_copy(update={"model": config.model.model_copy(update={"freeze": freeze})}), 1, "cpu"
        ).measure(128)
        for freeze in ("none", 2, "all")
    }
    assert costs["none"].frozen == 0
    assert costs["all"].frozen == 11_176_512
    assert 0 < costs[2].frozen < costs["all"].frozen
    assert costs["none"].kept > 2 * costs[2].kept > 20 * costs["all"].kept
    heads = costs["all"].weights - costs["all"].frozen
    assert costs["all"].most_with_gradients < costs["all"].most + 4 * heads + 1


def test_heads_on_a_store_take_features():
    cost = Network(network_config("resnet18"), 1, "cpu", width=100).measure(8)
    assert (cost.numbers, cost.loaded, cost.frozen) == (100, 400, 0)
    assert cost.weights == 2 * (100 * 100 + 100) + 100 * 128 + 128 + 100 * 10 + 10
