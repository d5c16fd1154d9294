"""The states of ZeRO 0, whole on every rank, to DeepSpeed's universal format and back, for which it has no program.

::

    deepspeed/
      mp_rank_00_model_states.pt    the network's state dict with batch norm's statistics, and what else was saved;
                                    under ZeRO 0 Adam's state dict is in it
      zero/PARAMETER/               fp32.pt  exp_avg.pt  exp_avg_sq.pt  step.pt
      zero/optimizer_state.pt       the settings of the parameter groups
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STATES = "mp_rank_00_model_states.pt"
GROUPS = "zero/optimizer_state.pt"
MOMENTS = ("exp_avg", "exp_avg_sq")


def convert_plain(source: Path, out: Path, names: Sequence[str]) -> None:
    """Convert the folder of a checkpoint that was saved under ZeRO 0.

    Parameters
    ----------
    source, out
        Its folder with DeepSpeed's files, and the one to make.
    names
        The parameters' names in the optimizer's order, which its state does not tell.

    Raises
    ------
    OSError, RuntimeError
        If the disk does not take it.
    """
    saved = read_states(source)
    adam, weights = saved["optimizer"], saved["module"]
    for group in adam["param_groups"]:
        steps = [adam["state"][number]["step"] for number in group["params"] if number in adam["state"]]
        for number in group["params"]:
            name = names[number]
            value = weights[name]
            state = adam["state"].get(number, {})  # none: it never had a gradient
            moments = {key: state.get(key, torch.zeros_like(value)) for key in MOMENTS}
            folder = out / "zero" / name
            folder.mkdir(parents=True)
            for key, tensor in {"fp32": value, **moments}.items():
                torch.save({"param": tensor.contiguous().clone()}, folder / f"{key}.pt")
            torch.save(max(steps, default=torch.zeros(())), folder / "step.pt")
    settings = {"param_groups": adam["param_groups"], "ds_version": saved["ds_version"]}
    torch.save(settings, out / GROUPS)
    shutil.copyfile(source / STATES, out / STATES)


def load_plain(engine: Any, folder: Path) -> dict[str, Any]:
    """Load a converted folder into an engine under ZeRO 0; return what was saved beside weights and optimizer."""
    saved = read_states(folder)
    optimizer = engine.basic_optimizer
    device = next(engine.module.parameters()).device

    def read(name: str, key: str) -> Any:
        return torch.load(folder / "zero" / name / f"{key}.pt", map_location=device, weights_only=False)

    with torch.no_grad():
        for name, parameter in engine.module.named_parameters():
            parameter.copy_(read(name, "fp32")["param"].view_as(parameter))
            optimizer.state[parameter] = {
                "step": torch.as_tensor(read(name, "step"), dtype=torch.float32).clone(),
                **{
                    key: torch.empty_like(parameter).copy_(read(name, key)["param"].view_as(parameter))
                    for key in MOMENTS
                },
            }
    groups = torch.load(folder / GROUPS, map_location="cpu", weights_only=False)["param_groups"]
    for group, found in zip(optimizer.param_groups, groups, strict=True):
        group.update({key: value for key, value in found.items() if key != "params"})
    for name in ("global_steps", "global_samples", "skipped_steps"):
        setattr(engine, name, saved[name])
    return saved


def load_buffers(engine: Any, folder: Path) -> None:
    """Load batch norm's statistics, which DeepSpeed leaves out where it loads the universal format."""
    weights: dict[str, Tensor] = read_states(folder)["module"]
    with torch.no_grad():
        for name, buffer in engine.module.named_buffers():
            if name in weights:
                buffer.copy_(weights[name])


def read_states(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside ZeRO's parts."""
    states: dict[str, Any] = torch.load(folder / STATES, map_location="cpu", weights_only=False)
    return states
