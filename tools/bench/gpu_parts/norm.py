"""Batch norm over the global batch beside torch's own, forward and backward, on one device.

Through what several ranks use, of one rank: all but the two collectives. The bound is 16 bytes an element in
bfloat16: x for the statistics, x and the output; the gradient and x for the sums, both and the gradient to x.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale.model.global_norm import global_batch_norm
from gpu_parts.clock import launch_seconds, seconds_of

SHAPES = (2048, 64, 112, 112), (2048, 128, 28, 28)
SMALL = ((4, 8, 6, 6),)


def measure(device: torch.device, dry: bool) -> None:
    """Print a line a figure; dry: small and on any device."""
    for shape in SMALL if dry else SHAPES:
        for name, normalise in (("over the global batch", global_batch_norm), ("torch's", torchs)):
            x = torch.randn(shape, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            x.requires_grad_()
            weight, bias = (torch.ones(shape[1], device=device, requires_grad=True) for _ in range(2))
            mean, var = (torch.ones(shape[1], device=device) for _ in range(2))
            gradient = torch.randn_like(x)
            forward = partial(normalise, x, weight, bias, mean, var, 0.1, 1e-5)
            both = partial(back_through, forward, x, gradient)
            both()  # the first time loads libraries
            there, back = (1000 * seconds_of(call, device) for call in (forward, both))
            print(
                f"norm {shape} bf16, {name}: forward {there:.3f} ms, both ways {back:.3f} ms, "
                f"the host {1000 * launch_seconds(both, device):.3f} ms "
                f"({16 * x.numel() / back / 1e9:.2f} TB/s of 16 B an element), "
                f"{peak(both, device) / x.numel():.1f} B an element at most"
            )


def torchs(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> Tensor:
    """Normalise as torch does."""
    return F.batch_norm(x, mean, var, weight, bias, training=True, momentum=momentum, eps=eps)


def back_through(forward: Callable[[], Tensor], x: Tensor, gradient: Tensor) -> None:
    """Go forward, and back to x and nothing else."""
    torch.autograd.grad(forward(), x, gradient)


def peak(call: Callable[[], object], device: torch.device) -> float:
    """Return the bytes that a call takes at most; not a number on a CPU."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
