"""Weights, gradients and Adam's moments lie alike in memory: CUDA's fused Adam refuses others, a CPU takes them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from torch import nn

from ccscale.checkpoint import Checkpoint, load
from ccscale.checkpoint.rank_files import write_files
from ccscale.checkpoint.snapshot import take_snapshot
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.engine.build import build_engine
from ccscale.engine.parameter_groups import train_by
from ccscale.model.network import ContrastiveClustering

N, SIZE = 8, 32
PHASES = {"none": None, "two": [{"splits": ["u"], "losses": ["instance"]}, {"splits": ["t"]}]}


def config_of(zero: int, phases: str) -> Config:
    return parse_config(
        {
            "data": {"shards": "-", "phases": PHASES[phases]},
            "views": {"size": SIZE},
            "model": {"backbone": "test_resnet", "clusters": 5},
            "train": {"global_batch": N, "zero": zero},
        }
    )


def network_of(config: Config) -> ContrastiveClustering:
    """Return a network in which two layers have no gradient, and one has dimensions of size 1."""
    torch.manual_seed(0)
    network = ContrastiveClustering(config.model, SIZE)
    network.backbone.left_out = nn.Conv2d(4, 6, 3)
    network.cluster_head.left_out = nn.Conv2d(3, 2, 5)
    network.backbone.conv1 = nn.Sequential(network.backbone.conv1, nn.Conv2d(32, 32, 1, groups=32))
    return network


def take_step(engine: Any, phases: str) -> list[tuple[str, str]]:
    """Take a step, and return what lies otherwise than its weight when Adam looks at it."""
    wrong, optimizer = [], engine.optimizer

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        names = {parameter: name for name, parameter in engine.network.named_parameters()}
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            state = optimizer.state.get(parameter, {})
            for kind, value in (
                ("gradient", parameter.grad),
                *((key, state.get(key)) for key in ("exp_avg", "exp_avg_sq")),
            ):
                if value is not None and value.stride() != parameter.stride():
                    wrong.append((names.get(parameter, "flat"), kind))

    hooks = [optimizer.register_step_pre_hook(look), optimizer.register_step_post_hook(look)]
    train_by(optimizer, ("instance",) if phases == "two" else ("instance", "cluster"))
    images = torch.rand(4, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    outputs = engine(images)
    engine.backward(
        outputs.embeddings.square().sum() + (0 if phases == "two" else outputs.assignments.square().sum())
    )
    engine.step()
    for hook in hooks:
        hook.remove()
    return wrong


def steps(rank: int, world: int, folder: str) -> dict[tuple[int, str, str], list[tuple[str, str]]]:
    """Take the first step of each kind of run: begun, gone on, and gone on where the moments had other strides."""
    found, device = {}, torch.device("cpu")
    for zero in (0, 1, 2):
        for phases in PHASES:
            config, path = config_of(zero, phases), Path(folder, f"{zero}-{phases}")
            engine = build_engine(config, network_of(config), device)
            found[zero, phases, "begun"] = take_step(engine, phases)
            if zero == 0:
                four = [weight for weight in engine.network.parameters() if weight.dim() == 4]
                assert any(not weight.is_contiguous() for weight in four)
            for kind in ("gone on", "of other strides"):
                if kind == "of other strides":
                    for state in engine.optimizer.state.values():
                        for name in ("exp_avg", "exp_avg_sq"):
                            state[name] = state[name].contiguous()
                write_files(path / kind, rank, take_snapshot(engine, {}))
                torch.distributed.barrier()
                again = build_engine(config, network_of(config), device)
                load(again, Checkpoint(path / kind, 1, world), None)
                found[zero, phases, kind] = take_step(again, phases)
    return found


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_all_that_adam_steps_lies_as_its_weight(world: int, tmp_path: Path) -> None:
    for found in run_ranks(world, steps, world, str(tmp_path)):
        assert len(found) == 18
        assert {case: wrong for case, wrong in found.items() if wrong} == {}
