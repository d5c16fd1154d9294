"""The colours of views on an NVIDIA GPU, fused: what `colour.py` does in a handful of kernels (Triton).

Pixels are read as uint8 and written in the type that the network takes, channels last, so nothing is copied
afterwards. Each program has a part of one view in registers and takes that view's operations in its own order; a
first kernel has found the mean grey that contrast blends with, in the same whole steps. The blur goes down the
columns and along the rows, each a kernel of its own, and only over the views that have one.

Every number comes from the operations of `colour.py` in their order, with IEEE rounding and without fused
multiply-add: the result is that of a CPU, to the last bit.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from torch import Tensor

from ccscale.config import Views
from ccscale.data.images.colour import blur_weights, check
from ccscale.data.images.views import CONTRAST, NEUTRAL, ColourParameters

PIXELS, WARPS = 1024, 8  # that a program has: four pixels a thread keep within a third of the registers
# Of a blur's program, down the columns and along the rows: rows, numbers of a row.
TILES = ((64, 32), (4, 256))
MOST_NUMBERS = 2**25  # of blurred views between two kernels: bounds what they take of the device's memory

# x / 255 of a whole number x up to 255, rounded once: x times the first is exact, the second is what is missing.
_HIGH = tl.constexpr(float(np.round(2.0**23 / 255) / 2.0**23))
_LOW = tl.constexpr(float(np.float32(1 / 255 - np.round(2.0**23 / 255) / 2.0**23)))

# A view's row of parameters: its operations by their places (-1: none), their factors, the place of contrast (4:
# none), whether it turns grey, the blur's radius, and the blur's weights from the middle outwards.
_FACTORS, _STOP, _GREY, _RADIUS, _WEIGHTS = (tl.constexpr(place) for place in (4, 8, 9, 10, 11))


def colour_fused(images: Tensor, colour: ColourParameters, settings: Views, dtype: torch.dtype) -> Tensor:
    """Apply colour jitter, grey and blur; the host does not wait for the device.

    Parameters
    ----------
    images, colour, settings
        As for `apply_colour`.
    dtype
        Of the result. All is computed in float32.

    Returns
    -------
    torch.Tensor
        Shape (M, 3, S, S), in [0, 1], channels last.
    """
    check(images, colour)
    images = images.contiguous()
    count, height, width, _ = images.shape
    pixels, numbers = height * width, 3 * height * width
    result = torch.empty(
        (count, 3, height, width), dtype=dtype, device=images.device, memory_format=torch.channels_last
    )
    rows = _rows(colour, settings.blur_kernel)
    chosen = [np.flatnonzero(rows[:, _STOP.value] < 4), *_by_blur(colour, max(1, MOST_NUMBERS // numbers))]
    (contrasted, sharp, *blurred), parameters = _send(chosen, rows, images.device)
    sums = torch.zeros(count, dtype=torch.int64, device=images.device)
    shared = {"stride": rows.shape[1], "enable_fp_fusion": False}

    def jitter(which: Tensor, out: Tensor, **kind: bool) -> None:
        blocks = triton.cdiv(pixels, PIXELS)
        if len(which):
            _jitter_kernel[(len(which) * blocks,)](
                images, which, parameters, sums, out, blocks=blocks, pixels=pixels, PIXELS=PIXELS,
                num_warps=WARPS, **kind, **shared,
            )  # fmt: skip

    def blur(which: Tensor, source: Tensor, out: Tensor, along: bool) -> None:
        tall, wide = TILES[along]
        down, across = triton.cdiv(height, tall), triton.cdiv(3 * width, wide)
        _blur_kernel[(len(which) * down * across,)](
            source, which, parameters, out, height=height, line=3 * width, down=down, across=across,
            ALONG=along, ROWS=tall, COLUMNS=wide, **shared,
        )  # fmt: skip

    with torch.cuda.device_of(images):  # Triton launches on the current one
        jitter(contrasted, sums, MEAN=True, APART=False)
        jitter(sharp, result, MEAN=False, APART=False)
        if blurred:
            most = max(map(len, blurred))
            first, second = torch.empty((2, most, numbers), dtype=torch.float32, device=images.device)
        for which in blurred:
            jitter(which, first, MEAN=False, APART=True)
            blur(which, first, second, along=False)
            blur(which, second, result, along=True)
    return result


def _rows(colour: ColourParameters, kernel: int) -> npt.NDArray[np.float32]:
    """Return the parameters of each view in a row, as the kernels take them."""
    blurred = np.flatnonzero(colour.sigma)
    weights = np.empty((0, 0))
    if len(blurred):
        weights = blur_weights(colour.sigma[blurred], kernel, torch.finfo(torch.float32).eps)
    rows = np.zeros((len(colour), _WEIGHTS.value + weights.shape[1]), dtype=np.float32)
    factors = np.take_along_axis(colour.factors, colour.order.astype(np.intp), axis=1)
    neutral = factors == NEUTRAL[colour.order]
    rows[:, :4] = np.where(neutral, -1, colour.order)
    rows[:, 4:8] = factors
    contrast = rows[:, :4] == CONTRAST
    rows[:, _STOP.value] = np.where(contrast.any(axis=1), contrast.argmax(axis=1), 4)
    rows[:, _GREY.value] = colour.grey
    rows[blurred, _RADIUS.value] = np.count_nonzero(weights, axis=1) - 1
    rows[blurred, _WEIGHTS.value :] = weights
    return rows


def _by_blur(colour: ColourParameters, at_once: int) -> list[npt.NDArray[np.intp]]:
    """Return which views are not blurred, and which are, so many at once."""
    blurred = np.flatnonzero(colour.sigma)
    parts = [blurred[start : start + at_once] for start in range(0, len(blurred), at_once)]
    return [np.flatnonzero(colour.sigma == 0), *parts]


def _send(
    chosen: list[npt.NDArray[np.intp]], rows: npt.NDArray[np.float32], device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Copy lists of views and the rows of parameters, in one transfer that the host does not wait for."""
    lengths = [*map(len, chosen), rows.size]
    joined = torch.empty(sum(lengths), dtype=torch.int32, pin_memory=device.type == "cuda")
    parts: Any = joined.numpy()
    parts[: -rows.size] = np.concatenate(chosen)
    parts[-rows.size :] = rows.ravel().view(np.int32)
    *lists, parameters = joined.to(device, non_blocking=True).split(lengths)
    return lists, parameters.view(torch.float32)


@triton.jit(do_not_specialize=["blocks", "stride", "pixels"])
def _jitter_kernel(  # type: ignore[no-untyped-def]  # Triton reads annotations as types of its own
    IMAGES, CHOSEN, PARAMETERS, SUMS, OUT, blocks, stride, pixels,
    MEAN: tl.constexpr, APART: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Put a view's pixels through its operations; with MEAN add up the grey that contrast finds.

    APART: out is of the chosen views alone, one after the other.
    """
    number = tl.program_id(0) // blocks
    view = tl.load(CHOSEN + number).to(tl.int64)
    row = PARAMETERS + view * stride
    pixel = (tl.program_id(0) % blocks) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    image = IMAGES + view * pixels * 3 + pixel * 3
    red = _unit(tl.load(image, mask=inside, other=0))
    green = _unit(tl.load(image + 1, mask=inside, other=0))
    blue = _unit(tl.load(image + 2, mask=inside, other=0))
    stop = tl.load(row + _STOP)
    mean = 0.0
    if MEAN:
        last = stop.to(tl.int32)
    else:
        last = 4
        if stop < 4:
            steps = pixels.to(tl.int64) * 1073741824  # 2**30
            mean = (tl.load(SUMS + view).to(tl.float64) / steps.to(tl.float64)).to(tl.float32)
    for place in range(last):
        operation = tl.load(row + place)
        factor = tl.load(row + _FACTORS + place)
        if operation == 0:
            red, green, blue = _clamp(red * factor), _clamp(green * factor), _clamp(blue * factor)
        elif operation == 1:
            other = (1 - factor) * mean
            red = _clamp(red * factor + other)
            green = _clamp(green * factor + other)
            blue = _clamp(blue * factor + other)
        elif operation == 2:
            grey = _grey(red, green, blue) * (1 - factor)
            red = _clamp(red * factor + grey)
            green = _clamp(green * factor + grey)
            blue = _clamp(blue * factor + grey)
        elif operation == 3:
            red, green, blue = _turn(red, green, blue, factor)
    if MEAN:
        whole = _whole(_grey(red, green, blue) * 1073741824.0)
        tl.atomic_add(SUMS + view, tl.sum(tl.where(inside, whole, 0.0).to(tl.int64), axis=0), sem="relaxed")
    else:
        if tl.load(row + _GREY) != 0:
            red = _grey(red, green, blue)
            green = red
            blue = red
        if APART:
            view = number.to(tl.int64)
        out = OUT + view * pixels * 3 + pixel * 3
        tl.store(out, red.to(OUT.dtype.element_ty), mask=inside)
        tl.store(out + 1, green.to(OUT.dtype.element_ty), mask=inside)
        tl.store(out + 2, blue.to(OUT.dtype.element_ty), mask=inside)


@triton.jit
def _unit(x):  # type: ignore[no-untyped-def]
    x = x.to(tl.float32)
    return x * _HIGH + x * _LOW


@triton.jit
def _clamp(x):  # type: ignore[no-untyped-def]
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _grey(red, green, blue):  # type: ignore[no-untyped-def]
    return (0.2989 * red + 0.587 * green) + 0.114 * blue


@triton.jit
def _whole(x):  # type: ignore[no-untyped-def]
    """Round numbers from 0 up to whole ones, halves to the even one: from 2**23 on they are whole."""
    return tl.where(x < 8388608.0, (x + 8388608.0) - 8388608.0, x)


@triton.jit
def _turn(red, green, blue, shift):  # type: ignore[no-untyped-def]
    """Turn the hue; see `colour._hue`."""
    value = tl.maximum(tl.maximum(red, green), blue)
    chroma = value - tl.minimum(tl.minimum(red, green), blue)
    is_red, is_green = red >= value, green >= value
    side = tl.where(is_red, green - blue, tl.where(is_green, blue - red, red - green))
    third = tl.where(is_red, 0.0, tl.where(is_green, 1 / 3, 2 / 3))
    hue = tl.div_rn(side, tl.maximum(6 * chroma, 1.1754943508222875e-38)) + third + shift
    return (
        value - _away(hue + 1 / 2, chroma),
        value - _away(hue + 1 / 6, chroma),
        value - _away(hue + -1 / 6, chroma),
    )


@triton.jit
def _away(hue, chroma):  # type: ignore[no-untyped-def]
    turns = hue - ((hue + 12582912.0) - 12582912.0)  # 1.5 * 2**23: what is added and taken off rounds
    return _clamp(tl.abs(turns) * -6 + 2) * chroma


@triton.jit(do_not_specialize=["height", "down", "across", "stride"])
def _blur_kernel(  # type: ignore[no-untyped-def]
    SOURCE, CHOSEN, PARAMETERS, OUT, height, line, down, across, stride,
    ALONG: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Blur a tile of a view, a line the numbers of a row of pixels: down the columns first, then ALONG the rows.

    In between the chosen views lie one after the other; ALONG the rows they go to their own places.
    """
    tile = tl.program_id(0) % (down * across)
    number = (tl.program_id(0) // (down * across)).to(tl.int64)
    view = tl.load(CHOSEN + number).to(tl.int64)
    row = PARAMETERS + view * stride
    y = (tile // across) * ROWS + tl.arange(0, ROWS)[:, None]
    x = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (y < height) & (x < line)
    source = SOURCE + number * height * line
    total = tl.load(source + y * line + x, mask=inside, other=0.0) * tl.load(row + _WEIGHTS)
    first = 2 * (x % 3) - x  # ALONG: the number's place reflected at the first pixel, and at the last
    last = first + 2 * (line - 3)
    for step in range(1, tl.load(row + _RADIUS).to(tl.int32) + 1):
        if ALONG:
            before = tl.maximum(x - 3 * step, first + 3 * step)
            after = tl.minimum(x + 3 * step, last - 3 * step)
            pair = tl.load(source + y * line + before, mask=inside, other=0.0) + tl.load(
                source + y * line + after, mask=inside, other=0.0
            )
        else:
            before = tl.abs(y - step)
            after = tl.minimum(y + step, 2 * (height - 1) - y - step)
            pair = tl.load(source + before * line + x, mask=inside, other=0.0) + tl.load(
                source + after * line + x, mask=inside, other=0.0
            )
        total += pair * tl.load(row + _WEIGHTS + step)
    out = OUT + (view if ALONG else number) * height * line + y * line + x
    tl.store(out, total.to(OUT.dtype.element_ty), mask=inside)
