"""A run that changes its ZeRO stage on the way, or its number of ranks with it, goes on as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as torch_dist
from harness.ranks import run_ranks
from harness.steps import batch_of, network_of
from torch import Tensor

from ccscale.checkpoint import Checkpoint, Search
from ccscale.checkpoint.rank_files import write_files
from ccscale.checkpoint.snapshot import take_snapshot
from ccscale.config import Config, LossName
from ccscale.config.file import parse_config
from ccscale.train.opening import Opening, restore
from ccscale.train.step import Stepper

N, SIZE = 8, 32
DEVICE = torch.device("cpu")
# The first steps leave the cluster head out; a checkpoint is saved after the third.
STEPS: list[tuple[LossName, ...]] = [("instance",), ("instance", "cluster"), ("instance",)]
MORE: list[tuple[LossName, ...]] = [("instance", "cluster"), ("instance",), ("instance", "cluster")]
SAVED = [(0, 1), (1, 1), (0, 2), (2, 2)]  # (ZeRO stage, ranks)
WAYS = [  # and those that it goes on under
    ((0, 1), (1, 1)),
    ((0, 1), (2, 2)),
    ((1, 1), (0, 1)),
    ((1, 1), (2, 1)),
    ((0, 2), (1, 1)),
    ((0, 2), (2, 2)),
    ((2, 2), (0, 1)),
    ((2, 2), (0, 2)),
    ((2, 2), (1, 2)),
]

State = dict[str, Tensor]


def config_of(zero: int) -> Config:
    phases = [{"splits": ["u"], "losses": ["instance"]}, {"splits": ["t"]}]
    return parse_config(
        {
            "data": {"shards": "-", "phases": phases},
            "views": {"size": SIZE},
            "model": {"backbone": "test_resnet", "clusters": 5},
            "train": {
                "global_batch": N,
                "zero": zero,
                "lr": 0.0006,  # where a gradient is next to nothing rounding gives Adam's step its sign
                "optimizer": "adamw",
                "weight_decay": 0.1,
                "layer_decay": 0.8,
                "ema": 0.9,
            },
        }
    )


def take(
    engine: Any, config: Config, first: int, by: list[tuple[LossName, ...]], place: tuple[int, int]
) -> Any:
    stepper, losses = Stepper(config, engine, DEVICE), []
    for step, names in enumerate(by, start=first):
        taken, verdict = stepper.take(batch_of(config, step, *place), names)
        assert not verdict.skipped
        losses.append(float(taken.loss))
    return losses


def state_of(engine: Any) -> State:
    """Return weights, batch norm's statistics, and Adam's moments and steps, whole and by name."""
    from deepspeed.utils import safe_get_full_optimizer_state

    state = {name: value.detach().clone() for name, value in engine.network.state_dict().items()}
    optimizer, zero = engine.optimizer, engine.zero
    for name, parameter in engine.network.named_parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            value = (
                safe_get_full_optimizer_state(parameter, key)
                if zero
                else optimizer.state[parameter][key].clone()
            )
            state[f"{name} {key}"] = value.detach().contiguous()
    for number, group in enumerate(optimizer.param_groups):
        state[f"step of group {number}"] = optimizer.state[group["params"][0]]["step"].clone()
        state[f"decay and rate of group {number}"] = torch.tensor([group["weight_decay"], group["scale"]])
    return state


def save(rank: int, world: int, folder: str) -> dict[tuple[int, int], tuple[State, list[float], State]]:
    """Save under each stage; return the state, and the losses and the state of going on unchanged."""
    found = {}
    for zero, ranks in SAVED:
        if ranks == world:
            config = config_of(zero)
            opening = Opening(config, False, Search(None, ()), network_of(config, 0))
            engine, *_ = restore(opening, DEVICE)
            take(engine, config, 0, STEPS, (rank, world))
            path = Path(folder, f"{zero}-{world}/checkpoints/step-00000003")
            write_files(path, rank, take_snapshot(engine, {"bad": ["an image"]}))
            state = state_of(engine)
            found[zero, world] = state, take(engine, config, 3, MORE, (rank, world)), state_of(engine)
    return found


def go_on(rank: int, world: int, folder: str) -> dict[tuple[Any, Any], tuple[State, list[float], State]]:
    found = {}
    for source, target in WAYS:
        if target[1] == world:
            config = config_of(target[0])
            path = Path(folder, "{}-{}/checkpoints/step-00000003".format(*source))
            search = Search(Checkpoint(path, 3, source[1], source[0]), ())
            engine, step, kept = restore(Opening(config, True, search, network_of(config, 1)), DEVICE)
            assert (step, kept["bad"], engine._engine.global_steps) == (3, ["an image"], 3)
            state = state_of(engine)
            found[source, target] = state, take(engine, config, 3, MORE, (rank, world)), state_of(engine)
            torch_dist.barrier()
    return found


@pytest.mark.dist
@pytest.mark.slow
def test_it_goes_on_as_it_was(tmp_path: Path) -> None:
    saved = {
        key: value
        for world in (1, 2)
        for key, value in run_ranks(world, save, world, str(tmp_path))[0].items()
    }
    gone_on = {
        key: value
        for world in (1, 2)
        for key, value in run_ranks(world, go_on, world, str(tmp_path))[0].items()
    }
    assert gone_on.keys() == set(WAYS)
    for (source, target), (state, losses, after) in gone_on.items():
        way = f"{source} to {target}"
        before, unchanged, end = saved[source]
        assert state.keys() == before.keys()
        for name, value in state.items():
            assert torch.equal(value, before[name]), f"{way}: {name}"  # the conversion is exact
        assert losses == pytest.approx(unchanged, rel=2e-5), way
        for name, value in after.items():
            assert torch.allclose(value, end[name], rtol=1e-3, atol=2e-4), f"{way}: {name}"
