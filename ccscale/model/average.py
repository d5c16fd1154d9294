"""Averaged weights: the exponential moving average of what training makes of a module.

After each step, with a decay below 1 (Tarvainen and Valpola, "Mean teachers are better role models", 2017)::

    average <- average + (1 - decay) (weights - average)

It goes on from what the module's state dict holds, so a resume is exact.
"""

import copy
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
        self.copy = _fixed(copy.deepcopy(source)).eval()

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
        averaged = dict(self.copy.named_buffers(remove_duplicate=False))
        sources = [*source.named_parameters(), *source.named_buffers()]
        shares: dict[torch.dtype, Tensor] = {}
        for name, value in sources:
            if not value.is_floating_point():
                averaged[name].copy_(value)
                continue
            if value.dtype not in shares:
                share = torch.full((), 1 - decay, dtype=value.dtype, device=value.device)
                shares[value.dtype] = share if skipped is None else share * (skipped <= 0)
            averaged[name].lerp_(value, shares[value.dtype])


def _fixed(module: nn.Module) -> nn.Module:
    """Make a module's parameters buffers, in place; those that it uses in several places stay one."""
    buffers: dict[nn.Parameter, Tensor] = {}
    for child in module.modules():
        for name, parameter in list(child._parameters.items()):
            if parameter is None:
                continue
            del child._parameters[name]
            child.register_buffer(name, buffers.setdefault(parameter, parameter.detach()))
    return module
