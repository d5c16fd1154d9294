"""Batch norm over the global batch, on any device.

Each rank computes mean and variance of its own batch; these (2C numbers a rank) are gathered and put together as
Chan et al. do for equal counts, which unlike sums of squares loses no digits::

    mean = mean_r(mean_r)        var = mean_r(var_r) + var_r(mean_r)

Per-rank statistics would make a run depend on the number of ranks, and torch's SyncBatchNorm refuses CPUs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ccscale import dist
from ccscale.errors import InputError


class _GlobalNorm:
    """Replaces the normalisation of a batch norm; the statistics are the global batch's while training."""

    updates = True  # whether a forward pass while training changes the running statistics

    def _normalize(self, x: Tensor) -> Tensor:
        assert isinstance(self, nn.modules.batchnorm._BatchNorm)
        training = self.training or self.running_mean is None
        updates = self.training and self.updates
        running = self.running_mean, self.running_var
        if (
            training and not updates
        ):  # copies, or torch would keep less for the way back than in the pass before
            mean, variance = (None if value is None else value.clone() for value in running)
            running = mean, variance
        momentum = 0.0 if self.momentum is None else self.momentum
        if updates and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # torch's meaning of None: the plain mean of all batches
                momentum = 1.0 / float(self.num_batches_tracked)
        if training and dist.world() > 1:
            return _global_batch_norm(x, self.weight, self.bias, *running, momentum, self.eps)
        return F.batch_norm(x, *running, self.weight, self.bias, training, momentum, self.eps)


class GlobalBatchNorm1d(_GlobalNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C) or (n, C, L)."""
        return self._normalize(x)


class GlobalBatchNorm2d(_GlobalNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W)."""
        return self._normalize(x)


class GlobalBatchNormAct2d(_GlobalNorm, BatchNormAct2d):
    """timm's batch norm with activation, over the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W), then drop and activate."""
        return self.act(self.drop(self._normalize(x)))


_GLOBAL = {
    nn.BatchNorm1d: GlobalBatchNorm1d,
    nn.BatchNorm2d: GlobalBatchNorm2d,
    BatchNormAct2d: GlobalBatchNormAct2d,
}


def has_batch_norm(module: nn.Module) -> bool:
    """Tell whether a network that is being trained takes statistics over its batch; what is frozen takes none."""
    return any(
        isinstance(child, nn.modules.batchnorm._BatchNorm) and child.training for child in module.modules()
    )


def use_global_batch_norm(module: nn.Module) -> nn.Module:
    """Make every batch norm in `module` take its statistics over the global batch, in place.

    Parameters, buffers, names and thus state dicts stay as they are.

    Raises
    ------
    InputError
        If there is a kind of batch norm that has no global form here.
    """
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, _GlobalNorm):
            if type(child) not in _GLOBAL:
                raise InputError(
                    f"the backbone has batch norms of the kind {type(child).__name__}, which cannot take their "
                    "statistics over all ranks: choose another one (model.backbone)"
                )
            child.__class__ = _GLOBAL[type(child)]  # the state is the same, the forward pass is another
    return module


@contextmanager
def keep_running_statistics(module: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are: for a forward pass that will be made again."""
    norms = [child for child in module.modules() if isinstance(child, _GlobalNorm)]
    for norm in norms:
        norm.updates = False
    try:
        yield
    finally:
        for norm in norms:
            norm.updates = True


@torch.compiler.disable  # collectives in the middle of a compiled graph would have to be traced
def _global_batch_norm(*arguments: Any) -> Tensor:
    return _GlobalBatchNorm.apply(*arguments)


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch norm with the statistics of all ranks, which hold equally large batches."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(_accurate(x), axes, correction=0)
        of_ranks = dist.gather_rows(torch.stack([mean, var]))  # (W, 2, C)
        mean = of_ranks[:, 0].mean(dim=0)
        var = of_ranks[:, 1].mean(dim=0) + of_ranks[:, 0].var(dim=0, correction=0)
        count = x.numel() // x.shape[1] * len(of_ranks)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / max(count - 1, 1))).to(running_var.dtype), momentum)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.count = count
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        g = _accurate(gradients[0])
        normal = (_accurate(x) - mean.view(shape)) * inverse_deviation.view(shape)
        sums = torch.stack([g.sum(axes), (g * normal).sum(axes)])  # (2, C)
        # The affine parameters' gradients stay local: the engine averages them over ranks.
        weight_gradient, bias_gradient = (sums[1], sums[0]) if weight is not None else (None, None)
        means = dist.sum_(sums.clone()) / ctx.count
        scale = inverse_deviation if weight is None else inverse_deviation * weight
        out = (g - means[0].view(shape) - normal * means[1].view(shape)) * scale.view(shape)
        return out.to(x.dtype), weight_gradient, bias_gradient, None, None, None, None


def _accurate(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
