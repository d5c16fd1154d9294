"""The mean of a number over all ranks, differentiable."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist


def mean_over_ranks(own: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Return the mean of a number of each rank. Its gradient is W times the derivative, which is 1/W: it is 1.

    Parameters
    ----------
    own
        This rank's, a scalar.
    group
        The ranks; by default all.
    """
    mean: Tensor = _MeanOverRanks.apply(own, group)
    return mean


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, group: ProcessGroup | None) -> Tensor:
        return dist.sum_(own.detach().clone(), group) / dist.world(group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
