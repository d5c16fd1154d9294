"""DeepSpeed's universal format: a checkpoint for any number of ranks and any ZeRO stage.

::

    deepspeed/
      mp_rank_00_model_states.pt    the network's state dict with batch norm's statistics, and ccscale's own state;
                                    under ZeRO 0 also Adam's state dict
      zero/PARAMETER/               fp32.pt  exp_avg.pt  exp_avg_sq.pt  step.pt
      zero/optimizer_state.pt       the settings of the parameter groups

ZeRO stages 1 and 2 partition the optimizer state over the ranks, and DeepSpeed has a program that merges the
parts. It has none for the state of ZeRO 0, complete on every rank: that is converted and loaded here.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccscale.engine.adapter import ADAM, OURS, STATES, VERSION, WEIGHTS, Engine, join_parts

GROUPS = "zero/optimizer_state.pt"
MOMENTS = ("exp_avg", "exp_avg_sq")


def convert(source: Path, out: Path, zero: int, names: Sequence[str]) -> None:
    """Convert DeepSpeed's files of a checkpoint.

    Parameters
    ----------
    source, out
        Their folder, and the one to make.
    zero
        The ZeRO stage that they were saved under.
    names
        The parameters' names in the optimizer's order, which its state does not tell.

    Raises
    ------
    OSError, RuntimeError
        If it cannot be written.
    """
    if zero > 0:
        join_parts(source, out)
        return
    saved = _read_states(source)
    adam, weights = saved[ADAM], saved[WEIGHTS]
    for group in adam["param_groups"]:
        steps = [adam["state"][number]["step"] for number in group["params"] if number in adam["state"]]
        for number in group["params"]:
            value = weights[names[number]]
            state = adam["state"].get(number, {})  # none: it never had a gradient
            moments = {key: state.get(key, torch.zeros_like(value)) for key in MOMENTS}
            folder = out / "zero" / names[number]
            folder.mkdir(parents=True)
            for key, tensor in {"fp32": value, **moments}.items():
                torch.save({"param": tensor.contiguous().clone()}, folder / f"{key}.pt")
            torch.save(max(steps, default=torch.zeros(())), folder / "step.pt")
    torch.save({"param_groups": adam["param_groups"], VERSION: saved[VERSION]}, out / GROUPS)
    shutil.copyfile(source / STATES, out / STATES)


def load_universal(engine: Engine, checkpoint: Path, tag: str) -> Any:
    """Load converted files into an engine that was built for them; return what was saved beside them.

    Parameters
    ----------
    engine
        Its network and optimizer are what is loaded into.
    checkpoint, tag
        The folder of the converted checkpoint, and in it that of the files.
    """
    folder = checkpoint / tag
    saved = _read_states(folder)
    with torch.no_grad():  # batch norm's statistics, which DeepSpeed leaves out
        for name, buffer in engine.network.named_buffers():
            if name in saved[WEIGHTS]:
                buffer.copy_(saved[WEIGHTS][name])
    if engine.zero > 0:
        return engine.load(checkpoint, tag)
    device = engine.network.device

    def read(name: str, key: str) -> Any:
        return torch.load(folder / "zero" / name / f"{key}.pt", map_location=device, weights_only=False)

    def moment(name: str, key: str, parameter: Tensor) -> Tensor:
        return torch.empty_like(parameter).copy_(read(name, key)["param"].view_as(parameter))

    with torch.no_grad():
        for name, parameter in engine.network.named_parameters():
            if not parameter.requires_grad:
                if name in saved[WEIGHTS]:  # it is fixed, and not in what was kept once
                    parameter.copy_(saved[WEIGHTS][name])
                continue
            parameter.copy_(read(name, "fp32")["param"].view_as(parameter))
            engine.optimizer.state[parameter] = {
                "step": torch.as_tensor(read(name, "step"), dtype=torch.float32).clone(),
                **{key: moment(name, key, parameter) for key in MOMENTS},
            }
    groups = torch.load(folder / GROUPS, map_location="cpu", weights_only=False)["param_groups"]
    for group, found in zip(engine.optimizer.param_groups, groups, strict=True):
        group.update({key: value for key, value in found.items() if key != "params"})
    return engine.take_counts(saved)


def read_kept(folder: Path) -> Any:
    """Return what was saved besides weights and optimizer in a checkpoint's files, of either format."""
    return _read_states(folder)[OURS]


def _read_states(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside ZeRO's parts."""
    states: dict[str, Any] = torch.load(folder / STATES, map_location="cpu", weights_only=False)
    return states
