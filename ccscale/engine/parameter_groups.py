"""Parameter groups: which parameters a step trains (those its losses reach), at which rate, with which decay.

A head whose loss is not computed, in one phase of the epochs or in all, has no gradient. In torch, and so in the
paper's code, Adam then leaves its weights, moments and step count unchanged. DeepSpeed fills missing gradients
with zeros (the adapter does, if DeepSpeed does not average them), and Adam would keep moving the head by its
moments. So that a run is the same under every ZeRO stage and on any number of ranks, parameters that are trained
at different times form separate groups, which ZeRO keeps apart too, and groups that a step does not train are
left out of Adam's step. Parameters are also grouped by rate (a factor of the run's, `_SCALE`) and weight decay.
If all agree, there is one group.
"""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from ccscale.config import LOSSES, Config, LossName, Train
from ccscale.model.layers import layers_from_the_top
from ccscale.model.network import ContrastiveClustering

# Keys of a parameter group: what trains it; whether this step does not; its rate as a factor of the run's.
_LOSSES, _IDLE, _SCALE = "losses", "idle", "scale"


def parameter_groups(config: Config, network: ContrastiveClustering) -> list[dict[str, Any]]:
    """Return the parameters for an optimizer, in groups of those that are trained alike.

    Frozen parameters, and those that a backbone has fixed, are in none: DeepSpeed would give them zero gradients,
    and Adam would decay them.
    """
    phases = [frozenset(phase.losses) for phase in config.phases]
    parts: list[tuple[nn.Module, tuple[LossName, ...]]] = [
        (network.backbone, LOSSES),
        (network.instance_head, ("instance",)),
        (network.cluster_head, ("cluster",)),
    ]
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for part, losses in parts:
        when = tuple(not phase.isdisjoint(losses) for phase in phases)
        scales = _backbone_scales(config, part) if part is network.backbone else {}
        for name, parameter in part.named_parameters():
            if not parameter.requires_grad:
                continue
            scale, decay = scales.get(name, 1.0), _decay(config.train, part, name, parameter)
            group = groups.setdefault(
                (when, scale, decay),
                {"params": [], _LOSSES: [], _IDLE: False, _SCALE: scale, "weight_decay": decay},
            )
            group["params"].append(parameter)
            group[_LOSSES] += [loss for loss in losses if loss not in group[_LOSSES]]
    return list(groups.values())


def _backbone_scales(config: Config, backbone: nn.Module) -> dict[str, float]:
    """Return the rate of each of the backbone's parameters, as a factor of the run's."""
    factor, decay = config.train.backbone_lr, config.train.layer_decay
    if decay is None:
        return dict.fromkeys((name for name, _ in backbone.named_parameters()), factor)
    layers = layers_from_the_top(backbone, config.model.backbone)
    return {name: factor * decay**layer for name, layer in layers.items()}


def _decay(train: Train, part: nn.Module, name: str, parameter: Tensor) -> float:
    """Return a parameter's decay: AdamW excludes norms, biases, and those named by `no_weight_decay`."""
    if train.optimizer == "adam":
        return train.weight_decay
    spared: set[str] = getattr(part, "no_weight_decay", set)()
    if parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in spared):
        return 0.0
    return train.weight_decay


def parameter_names(config: Config, network: ContrastiveClustering) -> list[str]:
    """Return the parameters' names in the order of an optimizer of `parameter_groups`."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[parameter] for group in parameter_groups(config, network) for parameter in group["params"]]


def leave_out_idle(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Remove the gradients of idle groups, so that the optimizer skips them; a hook before its step."""
    for group in optimizer.param_groups:
        if group.get(_IDLE):
            for parameter in group["params"]:
                parameter.grad = None


def lay_out_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Give gradients the strides of their weights; a hook before an optimizer's step.

    CUDA's fused Adam refuses others, even in dimensions of size 1. The gradients that DeepSpeed fills in are
    contiguous.
    """
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
            parameter.grad = _like(parameter, parameter.grad)


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the strides of their weights; a hook after loading a state saved with other strides."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = _like(parameter, value)


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def train_by(optimizer: torch.optim.Optimizer, losses: Sequence[LossName]) -> None:
    """Set which groups the next step trains: those that the losses reach."""
    for group in optimizer.param_groups:
        group[_IDLE] = set(losses).isdisjoint(group.get(_LOSSES, LOSSES))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step; a group's is a factor of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_SCALE, 1.0)  # a checkpoint of an older release has no factor


def begin_states(optimizer: torch.optim.Adam) -> None:
    """Create Adam's state before the first step, for parameters that some steps do not train.

    Otherwise a checkpoint lacks it, and DeepSpeed cannot convert it to another number of ranks.
    """
    if len(optimizer.param_groups) > 1:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
