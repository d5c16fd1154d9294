"""Layers that take batch norm over the global batch; `global_norm.py` has the arithmetic.

Per-rank statistics would make a run depend on the number of ranks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from ccscale import dist
from ccscale.errors import InputError
from ccscale.model.global_norm import global_batch_norm
from ccscale.unimported import timm


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
            return global_batch_norm(x, self.weight, self.bias, *running, momentum, self.eps)
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


class GlobalBatchNormAct2d(_GlobalNorm, timm.layers.BatchNormAct2d):
    """timm's batch norm with activation, over the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, C, H, W), then drop and activate."""
        return self.act(self.drop(self._normalize(x)))


_GLOBAL = {
    nn.BatchNorm1d: GlobalBatchNorm1d,
    nn.BatchNorm2d: GlobalBatchNorm2d,
    timm.layers.BatchNormAct2d: GlobalBatchNormAct2d,
}


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether a network that is being trained takes statistics over its batch; what is frozen takes none."""
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
                    f"the backbone has batch norms of type {type(child).__name__}, whose statistics "
                    "cannot be computed over all ranks: choose another backbone (model.backbone)"
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
