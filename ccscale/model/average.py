"""Averaged weights: the exponential moving average of a module's weights during training.

After each step, with a decay below 1 (Tarvainen and Valpola, "Mean teachers are better role models", 2017)::

    average <- average + (1 - decay) (weights - average)

It resumes from what the module's state dict holds, so a resume is exact. What is frozen has no average: the copy
uses the module's own, and holds it neither in memory nor in its state dict.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """A copy of a module whose parameters are buffers: nothing trains it, and a checkpoint has it.

    It has the names of the module's own state dict, behind ``copy.``. It stays in evaluation mode, and calling it
    calls the copy, without gradient.

    Parameters
    ----------
    source
        The module, as the average begins. Its weights must be there, not on torch's meta device.

    Attributes
    ----------
    copy
        The module with the averaged weights.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        frozen = {
            id(parameter): parameter for parameter in source.parameters() if not parameter.requires_grad
        }
        self.copy = _fixed(copy.deepcopy(source, frozen)).eval()
        self._found: tuple[list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def forward(self, *arguments: Any) -> Any:
        """Return what the module with the averaged weights makes of its arguments."""
        return self.copy(*arguments)

    def train(self, mode: bool = True) -> "Average":
        """Stay in evaluation mode: batch norm takes the averaged statistics."""
        return super().train(False)

    @torch.no_grad()
    def update(self, source: nn.Module, decay: float, skipped: Tensor | None = None) -> None:
        """Take the weights and running statistics of a step into the average; the host waits for nothing.

        Parameters
        ----------
        source
            The module that the average was made of.
        decay
            Between 0 and 1: how much of the average stays.
        skipped
            A number on the device, above 0 where the step was skipped: then the average stays as it is.
        """
        of_types: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for pair in zip(*self._pairs(source), strict=True):
            for tensors, tensor in zip(of_types.setdefault(pair[1].dtype, ([], [])), pair, strict=True):
                tensors.append(tensor)
        for dtype, (averages, values) in of_types.items():
            if not dtype.is_floating_point:
                torch._foreach_copy_(averages, values)
                continue
            share = torch.full((), 1 - decay, dtype=dtype, device=values[0].device)
            share = share if skipped is None else share * (skipped <= 0)
            torch._foreach_lerp_(averages, values, [share] * len(values))

    def swap(self, source: nn.Module) -> None:
        """Exchange the averages and what they were made of: the module then computes with them, or no more."""
        for averaged, value in zip(*self._pairs(source), strict=True):
            averaged.data, value.data = value.data, averaged.data

    def _pairs(self, source: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Return the averages, and what each is of; looked for once, which takes longer than an update."""
        if self._found is None:
            values = dict(source.named_parameters(remove_duplicate=False)) | dict(source.named_buffers())
            averages = dict(self.copy.named_buffers())
            self._found = list(averages.values()), [values[name] for name in averages]
        return self._found

    def _apply(self, *arguments: Any, **options: Any) -> "Average":
        """Look for them anew where the module is moved, or its type changed: that makes other buffers."""
        self._found = None
        return super()._apply(*arguments, **options)


def served(weights: Mapping[str, Tensor], prefix: str = "average.copy.") -> dict[str, Tensor]:
    """Return a network's state dict with the averages, if it has some, in the place of what they are of."""
    plain = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    averages = {
        name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
    }
    return plain | averages


def _fixed(module: nn.Module) -> nn.Module:
    """Make a module's parameters buffers, in place; those that it uses in several places stay one.

    Those that are frozen are the source's own, and become attributes, with the statistics of a norm that is frozen:
    nobody moves, saves or averages them here.
    """
    buffers: dict[nn.Parameter, Tensor] = {}
    for child in module.modules():
        parameters = {
            name: parameter for name, parameter in child._parameters.items() if parameter is not None
        }
        if parameters and not any(parameter.requires_grad for parameter in parameters.values()):
            child.__dict__ |= child._buffers
            child._buffers.clear()
        for name, parameter in parameters.items():
            del child._parameters[name]
            if parameter.requires_grad:
                child.register_buffer(name, buffers.setdefault(parameter, parameter.detach()))
            else:
                child.__dict__[name] = parameter
    return module
