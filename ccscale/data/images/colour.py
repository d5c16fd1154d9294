"""The colours of views, on the training device: jitter, grey and blur of a whole batch, each view with its own.

torchvision's definitions on float images in [0, 1]. Which views take which operation at which place of their
own order is worked out on the host, from the parameters that are there already; the device is given index lists
and factors and is never waited for.

The result for a view is the same to the last bit whatever else is in the batch. On a CPU vectorised loops treat
their first and last elements apart, and reductions and convolutions pick their order by the batch's shape. So
every number here comes from elementwise operations that IEEE 754 defines exactly (no exp, no fused
multiply-add), and the one sum, that of `_contrast`, is exact in any order.

On one core two views of 224 px take about 2 ms an image: less than decoding and cutting them (see
tools/bench/loader.py), and less than a hundredth of a ResNet-34's training step there. So nothing is compiled.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale.config import Views
from ccscale.data.images.views import NEUTRAL, ColourParameters

# An operation changes images (g, 3, S, S) in place, given values (g, ...); blur any channels.
_Operation = Callable[[Tensor, Tensor], None]
_Step = tuple[_Operation, npt.NDArray[np.intp], npt.NDArray[Any]]


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn images (M, S, S, C) into (M, C, S, S), as they are: what evaluation looks at; uint8 in [0, 1]."""
    first = images.permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format)
    return first.div_(255) if images.dtype == torch.uint8 else first


@torch.no_grad()
def apply_colour(
    images: Tensor, colour: ColourParameters, settings: Views, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Apply colour jitter, grey and blur.

    Parameters
    ----------
    images
        Shape (M, S, S, 3), uint8, RGB, on any device; left as they are. Or of channels (M, S, S, C), float32, which
        are blurred, and have no colours to be changed.
    colour
        Of the M views, as `ColourParameters.flatten` gives them.
    settings
        The config's section; the one that `colour` was drawn with.
    dtype
        Of the result and of all that is computed: float32 or float64.

    Returns
    -------
    torch.Tensor
        Shape (M, 3, S, S), in [0, 1], contiguous, on the device of `images`; of channels (M, C, S, S).

    Raises
    ------
    ValueError
        If the images are not of that shape and type, or the parameters not of as many views.
    """
    check(images, colour)
    count, height, width, channels = images.shape
    result = torch.empty((count, channels, height, width), dtype=dtype, device=images.device)
    size = _images_at_a_time(channels * height * width, images.device)
    for start in range(0, count, size):
        part = slice(start, start + size)
        x = result[part]
        x.copy_(images[part].permute(0, 3, 1, 2))
        if images.dtype == torch.uint8:
            x.div_(255)
        _carry_out(list(_plan(colour[part], settings.blur_kernel, dtype)), x)
    return result


def check(images: Tensor, colour: ColourParameters) -> None:
    """Raise a `ValueError` if images or parameters are not as `apply_colour` takes them."""
    if images.dtype == torch.float32 and images.ndim == 4:
        if colour.grey.any() or (colour.factors != NEUTRAL).any():
            raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}, not RGB")
    elif images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}, not uint8 (M, S, S, 3)")
    if len(colour) != len(images):
        raise ValueError(f"got parameters for {len(colour)} views and {len(images)} images")


def _images_at_a_time(numbers: int, device: torch.device) -> int:
    """Return how many images of this many numbers are worked on together; the result does not depend on it."""
    if device.type != "cpu":
        return max(1, 2**26 // numbers)  # bounds what the temporaries take of the device's memory
    # A large image alone stays in the cache, and is its own group; of small ones enough to outweigh the calls.
    return 1 if numbers >= 2**17 else 2**20 // numbers


def _plan(colour: ColourParameters, kernel: int, dtype: torch.dtype) -> Iterator[_Step]:
    """Yield (operation, which images, their values) in the order of execution."""
    at_place = np.where(
        np.take_along_axis(colour.factors != NEUTRAL, colour.order.astype(np.intp), axis=1), colour.order, -1
    )  # (M, 4): the operation at each place of each view's order; -1: none
    for place in range(4):
        for number, operation in enumerate((_brightness, _contrast, _saturation, _hue)):
            chosen = np.flatnonzero(at_place[:, place] == number)
            if chosen.size:
                yield operation, chosen, colour.factors[chosen, number]
    chosen = np.flatnonzero(colour.grey)
    if chosen.size:
        yield _to_grey, chosen, np.empty((len(chosen), 0))
    chosen = np.flatnonzero(colour.sigma)
    if chosen.size:
        yield _blur, chosen, blur_weights(colour.sigma[chosen], kernel, torch.finfo(dtype).eps)


def _carry_out(steps: Sequence[_Step], x: Tensor) -> None:
    """Apply the steps to the images `x` (M, 3, S, S) in place."""
    if not steps:
        return
    indices = _send([chosen for _, chosen, _ in steps], x.device, torch.int64)
    values = _send([values for _, _, values in steps], x.device, x.dtype)
    for (operation, _, _), index, value in zip(steps, indices, values, strict=True):
        if len(index) == len(x):
            operation(x, value)
        else:
            group = x.index_select(0, index)
            operation(group, value)
            x.index_copy_(0, index, group)


def _send(arrays: Sequence[npt.NDArray[Any]], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Copy arrays to the device, in one transfer that the host does not wait for."""
    joined = torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(dtype)
    if device.type == "cuda":
        joined = joined.pin_memory()
    pieces = joined.to(device, non_blocking=True).split([array.size for array in arrays])
    return [piece.view(array.shape) for piece, array in zip(pieces, arrays, strict=True)]


def _per_image(values: Tensor) -> Tensor:
    """Shape values (g,) to multiply images (g, 3, S, S) with."""
    return values.reshape(-1, 1, 1, 1)


def _grey(x: Tensor) -> Tensor:
    """Return the grey of each pixel, (g, 1, S, S): torchvision's rgb_to_grayscale."""
    red, green, blue = x.split(1, dim=1)
    return (0.2989 * red).add_(0.587 * green).add_(0.114 * blue)


def _brightness(x: Tensor, factor: Tensor) -> None:
    x.mul_(_per_image(factor)).clamp_(0, 1)


def _contrast(x: Tensor, factor: Tensor) -> None:
    """Blend with the mean of the image's grey."""
    # In whole steps of 2**-30 the sum is exact in float64 (up to 2**23 pixels), in whatever order it is taken.
    steps = _grey(x).mul_(2**30).round_().sum((1, 2, 3), keepdim=True, dtype=torch.float64)
    mean = (steps / (2**30 * x.shape[2] * x.shape[3])).to(x.dtype)
    factor = _per_image(factor)
    x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)


def _saturation(x: Tensor, factor: Tensor) -> None:
    """Blend with the pixel's grey."""
    factor = _per_image(factor)
    other = _grey(x).mul_(1 - factor)
    x.mul_(factor).add_(other).clamp_(0, 1)


def _hue(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of HSV by `shift` turns.

    torchvision converts to HSV and back. The largest channel V and the smallest, V - C, stay what they are; with
    h in turns, each channel is V - C clamp(2 - 6 |h + o|, 0, 1), o = 1/2, 1/6, -1/6 for red, green, blue and
    h + o wrapped to [-1/2, 1/2] (the formula f(n) of Wikipedia's "HSL and HSV"). No rounding leads out of [0, 1].
    """
    red, green, blue = x.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Which channel is the largest (the first, if several), as numbers: to select by masks takes ten times as long.
    is_red = torch.ge(red, value, out=torch.empty_like(value))
    is_green = torch.ge(green, value, out=torch.empty_like(value)).mul_(1 - is_red)
    is_blue = (1 - is_red).sub_(is_green)
    hue = (green - blue).mul_(is_red)
    hue.add_((blue - red).mul_(is_green)).add_((red - green).mul_(is_blue))
    hue.div_((6 * chroma).clamp_min_(torch.finfo(x.dtype).tiny))
    hue.add_(is_green.mul_(1 / 3)).add_(is_blue.mul_(2 / 3)).add_(_per_image(shift))
    for channel, offset in ((red, 1 / 2), (green, 1 / 6), (blue, -1 / 6)):
        away = hue + offset
        away.sub_(away.round()).abs_().mul_(-6).add_(2).clamp_(0, 1).mul_(chroma)
        torch.sub(value, away, out=channel)


def _to_grey(x: Tensor, _: Tensor) -> None:
    x.copy_(_grey(x).expand_as(x))


def blur_weights(sigma: npt.NDArray[np.float32], kernel: int, eps: float) -> npt.NDArray[np.float64]:
    """Return torchvision's Gaussian kernel from its middle outwards, (g, radius + 1).

    Weights too small to change a sum of the wanted precision are zero, and what is zero for all is left out: at
    a sigma of 1, six pixels to each side do the work of eleven.
    """
    distance = np.arange(kernel // 2 + 1)
    weights = np.exp(-0.5 * (distance / sigma[:, None].astype(np.float64)) ** 2)
    weights /= 2 * weights.sum(axis=1, keepdims=True) - weights[:, :1]
    weights[weights < eps / 8] = 0
    return weights[:, : np.flatnonzero(weights.any(axis=0))[-1] + 1]


def _blur(x: Tensor, weights: Tensor) -> None:
    """Blur down the columns, then along the rows, with the edges reflected.

    Shifted images are summed, the two at the same distance under one weight, since a convolution would not be
    exact in the sense of this module's head (nor faster on a CPU, for one large image: 9.2 against 1.2 ms).
    """
    radius = weights.shape[1] - 1
    pair = torch.empty_like(x)  # made once: fresh memory costs as much as the sums
    for dim, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded = F.pad(x, padding, mode="reflect")
        length = x.shape[dim]
        torch.mul(padded.narrow(dim, radius, length), _per_image(weights[:, 0]), out=x)
        for step in range(1, radius + 1):
            before, after = (
                padded.narrow(dim, radius - step, length),
                padded.narrow(dim, radius + step, length),
            )
            torch.add(before, after, out=pair)
            x.add_(pair.mul_(_per_image(weights[:, step])))
