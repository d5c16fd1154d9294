"""The gradients that the engine applies are those of the global loss, under every ZeRO stage."""

from typing import Any

import pytest
import torch
from harness.descent import descend
from harness.ranks import run_ranks
from harness.steps import network_of
from torch import Tensor

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.engine.build import build_engine
from ccscale.engine.guard import StepGuard
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import Outputs

N, LR = 8, 0.01


def config_of(zero: int, precision: str = "fp32", clip: float | None = None) -> Config:
    train = {"global_batch": N, "zero": zero, "precision": precision, "lr": LR, "clip": clip}
    model = {"backbone": "test_resnet", "clusters": 5}
    return parse_config({"data": {"shards": "-"}, "model": model, "views": {"size": 32}, "train": train})


def images() -> Tensor:
    """(2 views, N, 3, 32, 32)"""
    return torch.rand(2, N, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def loss_of(outputs: Outputs) -> Tensor:
    z, p = outputs.embeddings.chunk(2), outputs.assignments.chunk(2)
    return instance_loss(*z) + cluster_loss(*p)


def weights_after(rank: int, world: int, zero: int, precision: str, clip: float | None, steps: int) -> Any:
    """Train on this rank's images; return the losses and the weights."""
    config = config_of(zero, precision, clip)
    network = network_of(config)
    engine = build_engine(config, network, torch.device("cpu"))
    # Plain gradient descent shows the gradient itself; Adam's first step shows little but its sign.
    base = engine.optimizer
    for group in base.param_groups:
        group["params"] = list(group["params"])
    base.step = lambda: descend(base, LR)  # type: ignore[method-assign]
    guard = StepGuard(engine, torch.device("cpu"), clip)
    n = N // world
    mine = images()[:, rank * n : (rank + 1) * n].flatten(0, 1)
    losses = []
    for _ in range(steps):
        guard.begin()
        loss = loss_of(engine(mine.double() if precision == "fp64" else mine.float()))
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses, {name: value.detach().clone() for name, value in network.named_parameters()}


def oracle(clip: float | None, steps: int) -> tuple[list[float], dict[str, Tensor]]:
    """One process, float64, no engine."""
    network = network_of(config_of(0)).double()
    losses = []
    for _ in range(steps):
        network.zero_grad()
        loss = loss_of(network(images().flatten(0, 1)))
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= LR * parameter.grad
        losses.append(loss.item())
    return losses, {name: value.detach() for name, value in network.named_parameters()}


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "zero", "precision", "clip", "tolerance"),
    [
        (1, 0, "fp32", None, 2e-5),
        (2, 0, "fp32", 0.5, 2e-5),
        (2, 1, "fp64", 0.5, 1e-11),
        (2, 2, "fp32", 0.5, 2e-5),
        (2, 1, "fp32", None, 2e-5),
        (2, 2, "fp32", None, 2e-5),
        (2, 1, "fp64", None, 1e-11),
        (4, 2, "fp64", None, 1e-11),
    ],
)
def test_the_applied_gradient_is_the_global_losss(
    world: int, zero: int, precision: str, clip: float | None, tolerance: float
) -> None:
    """Steps of gradient descent equal the oracle's: relative to the size of each tensor's change."""
    losses, weights = oracle(clip, steps=2)
    start = {name: value.detach() for name, value in network_of(config_of(0)).double().named_parameters()}
    for found, found_weights in run_ranks(world, weights_after, world, zero, precision, clip, 2):
        assert found == pytest.approx(losses, rel=tolerance)
        largest = max(float((weights[name] - start[name]).abs().max()) for name in weights)
        for name, expected in weights.items():
            change = float((expected - start[name]).abs().max())
            error = float((found_weights[name].double() - expected).abs().max())
            # float32 weights are themselves rounded to 6e-8 of their size, and a small change ends in that
            floor = 1.2e-7 * float(expected.abs().max()) if precision == "fp32" else 0.0
            assert error <= floor + tolerance * max(change, 0.05 * largest), name


@pytest.mark.dist
@pytest.mark.slow
def test_bf16_computes_in_bf16_and_keeps_float32() -> None:
    ((features, weights, gradient),) = run_ranks(1, bf16_types)
    assert (features, weights, gradient) == (torch.bfloat16, torch.float32, torch.float32)


def bf16_types(rank: int) -> tuple[torch.dtype, torch.dtype, torch.dtype]:
    config = config_of(0, "bf16")
    network = network_of(config)
    engine = build_engine(config, network, torch.device("cpu"))
    outputs = engine(images().float().flatten(0, 1))
    engine.backward(loss_of(outputs))
    first = next(network.parameters())
    return outputs.features.dtype, first.dtype, first.grad.dtype


@pytest.mark.dist
@pytest.mark.slow
def test_a_second_run_of_a_process_has_its_own_device() -> None:
    """DeepSpeed keeps the accelerator that the first one had: here it was a GPU."""
    ((before, after, device),) = run_ranks(1, second_run)
    assert (before, after, device) == ("cuda", "cpu", torch.device("cpu"))


def second_run(rank: int) -> tuple[str, str, torch.device]:
    from deepspeed.accelerator import get_accelerator, set_accelerator
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    set_accelerator(CUDA_Accelerator())
    before = get_accelerator().device_name()
    engine = build_engine(config_of(0), network_of(config_of(0)), torch.device("cpu"))
    engine.backward(loss_of(engine(images().float().flatten(0, 1))))
    engine.step()
    return before, get_accelerator().device_name(), engine._engine.device
