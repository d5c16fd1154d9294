"""Which way the colours of views are made: fused on an NVIDIA GPU, by plain operations everywhere else.

The fused way is tried on a few small views before its first use on a device, against the plain one on a CPU, which
is its oracle: where it cannot be had or is wrong, the plain one does the work, and a warning says so once.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from ccscale.config import Views
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.views import ColourParameters, draw_views
from ccscale.kernel_trial import passes

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1 / 255}
"""Largest error of the fused views, by their type."""


def colour_views(
    images: Tensor, colour: ColourParameters, settings: Views, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Apply colour jitter, grey and blur, whichever way is the fastest on the device.

    Parameters
    ----------
    images, colour, settings
        As for `apply_colour`.
    dtype
        Of the result: float32, float64 or bfloat16, which is computed in float32.

    Returns
    -------
    torch.Tensor
        Shape (M, 3, S, S), in [0, 1], channels last in memory; of channels (M, C, S, S).
    """
    if images.is_cuda and images.dtype == torch.uint8 and dtype in TOLERANCES and works(images.device, dtype):
        from ccscale.data.images.fused_colour import colour_fused

        return colour_fused(images, colour, settings, dtype)
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    views = apply_colour(images, colour, settings, computed)
    return views.to(dtype, memory_format=torch.channels_last)


@cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the fused way can be had on a device, for views of a type, and is right."""
    return passes(
        device,
        lambda: largest_error(device, dtype),
        TOLERANCES[dtype],
        f"its colours are off by {{:.1e}}, in {dtype}",
        "the fused colours of views are not used on {} ({}); the plain ones are slower, and as exact",
    )


def largest_error(device: torch.device, dtype: torch.dtype, size: int = 40, count: int = 12) -> float:
    """Return the largest error of the fused colours of random views on a device, beside the plain ones on a CPU."""
    from ccscale.data.images.fused_colour import colour_fused

    settings = Views(
        size=size, strength=1.0, jitter=0.9, grey=0.2, blur=0.5, blur_kernel=min(9, 2 * size - 1)
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * count, size, size, 3), generator=generator).to(torch.uint8)
    colour = draw_views(settings, 0, 0, np.arange(count)).colour.flatten()
    fused = colour_fused(images.to(device), colour, settings, dtype).cpu()
    error = float((fused.float() - apply_colour(images, colour, settings)).abs().max())
    return error if error == error else float("inf")
