"""The arithmetic of batch norm over the global batch, on any device.

Each rank computes mean and variance of its own batch; these (2C numbers a rank) are gathered and put together as
Chan et al. do for equal counts, which unlike sums of squares loses no digits::

    mean = mean_r(mean_r)        var = mean_r(var_r) + var_r(mean_r)

The way back adds up two sums of a channel over the ranks. On a GPU all that goes over the activations is done by
the kernels of torch's own batch norm: 16 bytes an element in bfloat16, both ways. `torch.nn.SyncBatchNorm` takes
them too, but makes the host wait at each layer, and refuses CPUs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale import dist

GATHERED = 64
"""Statistics of up to this many ranks are gathered, which takes as many hops; beyond, summed in float64."""


def global_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise by the statistics of all ranks' batches, which are equally large, and move the running ones.

    Parameters
    ----------
    x
        (n, C, ...), of this rank.
    weight, bias
        (C,). Their gradients stay this rank's own: the engine averages them over ranks.
    running_mean, running_var
        (C,), changed in place.
    momentum, eps
        As those of `torch.nn.functional.batch_norm`.
    """
    normalise = _operator if torch.compiler.is_compiling() else _Norm.apply
    out, mean, var = normalise(x, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1] * dist.world()
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / max(count - 1, 1))).to(running_var.dtype), momentum)
    return out


def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is normalised, and mean and variance of all ranks."""
    if _has_kernels(x):
        x = x.contiguous(memory_format=_layout(x))
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    else:
        var, mean = torch.var_mean(_accurate(x), _axes(x), correction=0)
    mean, var = _of_all_ranks(mean, var)
    if _has_kernels(x):
        out = torch.batch_norm_elemt(x, weight, bias, mean, torch.rsqrt(var + eps), eps)
    else:
        out = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
    return out, mean, var


def _of_all_ranks(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all ranks' batches together."""
    if dist.world() <= GATHERED:
        of_ranks = dist.gather_rows(torch.stack([mean, var]))  # (W, 2, C)
        between = of_ranks[:, 0].var(dim=0, correction=0)
        return of_ranks[:, 0].mean(dim=0), of_ranks[:, 1].mean(dim=0) + between
    exact = mean.double()
    sums = dist.sum_(torch.stack([exact, exact.square(), var.double()])) / dist.world()  # (3, C)
    return sums[0].to(mean.dtype), (sums[2] + (sums[1] - sums[0].square()).clamp(min=0)).to(var.dtype)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to x, and this rank's to weight and bias; of no use where these are not there."""
    inverse_deviation = torch.rsqrt(var + eps)
    count = x.numel() // x.shape[1]
    if _has_kernels(x):
        layout = _layout(x)
        x, g = x.contiguous(memory_format=layout), gradient.contiguous(memory_format=layout)
        affine = weight is not None
        *sums, of_weight, of_bias = torch.batch_norm_backward_reduce(
            g, x, mean, inverse_deviation, weight, True, affine, affine
        )
        both = dist.sum_(torch.stack(sums))  # (2, C): of g and of g (x - mean)
        if not affine:
            of_weight, of_bias = torch.empty_like(mean), torch.empty_like(mean)
        counts = torch.full((dist.world(),), count, dtype=torch.int32, device=x.device)
        out = torch.batch_norm_backward_elemt(g, x, mean, inverse_deviation, weight, both[0], both[1], counts)
        return out, of_weight, of_bias
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    g = _accurate(gradient)
    normal = (_accurate(x) - mean.view(shape)) * inverse_deviation.view(shape)
    of_bias, of_weight = g.sum(_axes(x)), (g * normal).sum(_axes(x))
    means = dist.sum_(torch.stack([of_bias, of_weight])) / (count * dist.world())  # (2, C)
    scale = inverse_deviation if weight is None else inverse_deviation * weight
    out = (g - means[0].view(shape) - normal * means[1].view(shape)) * scale.view(shape)
    return out.to(x.dtype), of_weight, of_bias


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        output = _forward(*inputs)
        _keep(ctx, inputs, output)
        ctx.mark_non_differentiable(*output[1:])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, gradients[0], _backward)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, ctx.eps = inputs
    ctx.save_for_backward(x, weight, *output[1:])


def _gradients(ctx: Any, gradient: Tensor, backward: Any) -> tuple[Tensor | None, ...]:
    x, weight, mean, var = ctx.saved_tensors
    out, of_weight, of_bias = backward(gradient, x, weight, mean, var, ctx.eps)
    return (out, of_weight, of_bias, None) if weight is not None else (out, None, None, None)


# What is compiled takes them whole, as operations without effects; apart from that an operator of one's own costs
# the host 90 microseconds more a layer.
_operator = torch.library.custom_op("ccscale::global_batch_norm", _forward, mutates_args=())
_operator_back = torch.library.custom_op("ccscale::global_batch_norm_back", _backward, mutates_args=())


@_operator.register_fake
def _(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=_layout(x))
    return out, empty_statistics(x), empty_statistics(x)


@_operator_back.register_fake
def _(
    gradient: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=_layout(x))
    return out, torch.empty_like(mean), torch.empty_like(mean)


def _of_compiled(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, gradient, _operator_back)


_operator.register_autograd(_of_compiled, setup_context=_keep)


_planned = False


@contextmanager
def planned_for_gpus() -> Iterator[None]:
    """Take the way over a GPU's kernels on any device, for the length of the context: with shapes for numbers."""
    global _planned
    _planned = True
    try:
        yield
    finally:
        _planned = False


def _has_kernels(x: Tensor) -> bool:
    return x.is_cuda or _planned


def _layout(x: Tensor) -> torch.memory_format:
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def empty_statistics(x: Tensor) -> Tensor:
    """Return an uninitialized tensor of one number per channel: float64 for float64 inputs, else float32."""
    return x.new_empty(x.shape[1], dtype=_accurate(x.new_empty(0)).dtype)


def _accurate(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
