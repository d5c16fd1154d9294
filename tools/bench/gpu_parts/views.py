"""What views take on a GPU: the fused colours beside the plain ones, with blur and without, device and host."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ccscale.config import Views
from ccscale.data.images import device_colour
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.views import NEUTRAL, ColourParameters, draw_views
from gpu_parts.clock import launch_seconds, seconds_of


def measure(device: torch.device, dry: bool) -> None:
    """Print a line a figure: 1,024 images of 224 px, both views; dry: few small ones on a CPU."""
    count, size = (4, 32) if dry else (1024, 224)
    settings = Views(size=size, strength=1.0, blur=0.5, blur_kernel=23)
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randint(
        0, 256, (2 * count, size, size, 3), generator=generator, device=device, dtype=torch.uint8
    )
    colour = draw_views(settings, 0, 0, np.arange(count)).colour.flatten()
    still = replace(colour, sigma=np.zeros_like(colour.sigma))
    none = replace(still, factors=np.tile(NEUTRAL, (2 * count, 1)), grey=still.sigma > 0)
    for dtype in device_colour.TOLERANCES:
        begun = time.perf_counter()
        does = device.type == "cuda" and device_colour.works(device, dtype)
        print(f"   views fused {dtype}: works {does}, tried in {time.perf_counter() - begun:.1f} s")
    for what, these in (("half of them blurred", colour), ("none blurred", still), ("as they are", none)):
        for dtype in (torch.bfloat16, torch.float32):
            views = partial(device_colour.colour_views, images, these, settings, dtype)
            _print(f"views {what}, {dtype}", views, device)
        _print(f"views {what}, plain", partial(apply_colour, images, these, settings), device, 3)
    if device.type == "cuda":
        _choices(images, colour, still, settings, device)


def _choices(
    images: torch.Tensor,
    colour: ColourParameters,
    still: ColourParameters,
    settings: Views,
    device: torch.device,
) -> None:
    """Time other sizes of a program than those that are taken."""
    from ccscale.data.images import fused_colour as fused

    def run(these: ColourParameters) -> Callable[[], object]:
        return partial(fused.colour_fused, images, these, settings, torch.bfloat16)

    taken = fused.PIXELS, fused.WARPS, fused.TILES, fused.MOST_NUMBERS
    for pixels, warps in ((256, 2), (512, 4), (1024, 8)):
        fused.PIXELS, fused.WARPS = pixels, warps
        _print(f"views jitter, {pixels} pixels, {warps} warps", run(still), device)
    fused.PIXELS, fused.WARPS, *_ = taken
    for tiles in (
        ((64, 32), (4, 256)),
        ((64, 32), (2, 512)),
        ((64, 32), (8, 256)),
        ((64, 32), (1, 1024)),
        ((64, 32), (2, 1024)),
        ((64, 64), (4, 256)),
        ((128, 32), (4, 256)),
        ((32, 128), (4, 256)),
    ):
        fused.TILES = tiles
        _print(f"views blur, tiles {tiles}", run(colour), device)
    fused.TILES = taken[2]
    for most in (2**25, 2**26, 2**28):
        fused.MOST_NUMBERS = most
        _print(f"views blur, at most {most} numbers between kernels", run(colour), device)
    fused.MOST_NUMBERS = taken[3]


def _print(what: str, call: Callable[[], object], device: torch.device, times: int = 10) -> None:
    for _ in range(2):  # the first ones compile
        call()
    device_ms, host_ms = 1000 * seconds_of(call, device, times), 1000 * launch_seconds(call, device)
    print(f"   {what}: {device_ms:.2f} ms, the host {host_ms:.2f} ms")
