"""The random parameters of views: what torchvision's transforms would draw, for a whole batch at once.

An image's view is (paper, section "Data augmentation")

    RandomResizedCrop - RandomAffine - RandomHorizontalFlip      geometry, on the worker   (crops.py)
    - ColorJitter - RandomGrayscale - GaussianBlur               colour, on the device     (colour.py)

Each parameter has a slot of its own among the uniform numbers of the sample's view (philox.py), used or not:
switching one operation off leaves the draws of the others as they are. The last `raw` of the two views (paper,
Table 3) have the parameters that leave an image as it is.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ccscale.config import Views
from ccscale.philox import uniforms

VIEWS = 2

# The slots. Moving one changes every run that is resumed with the new code.
_CROP_TRIES = 10
_CROP = slice(0, 2 * _CROP_TRIES + 2)  # (share of the area, aspect ratio) of each try, then top, left
_FLIP = 22
_ANGLE = 23
_SHIFT = slice(24, 26)  # right, down
_ZOOM = 26
_JITTER = 27  # is it applied?
_ORDER = 28
_FACTORS = slice(29, 33)
_GREY = 33
_BLUR = 34  # is it applied?
_SIGMA = 35
_SLOTS = 36

# The jitter's operations by their numbers, as torchvision's ColorJitter has them, and the factors that leave
# an image as it is.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = np.array((1, 1, 1, 0), dtype=np.float32)
_ORDERS = np.array(list(itertools.permutations(range(4))), dtype=np.int8)  # (24, 4)


@dataclass(frozen=True, slots=True)
class ColourParameters:
    """What is done to the colours of views; arrays with any leading axes, (2, B) as drawn.

    Plain numpy arrays: a few bytes an image that pickle from a worker at next to no cost and stay on the host,
    where `apply_colour` plans from them what the device does.

    Attributes
    ----------
    order
        (2, B, 4) int8: the jitter's operations, first to last: 0 brightness, 1 contrast, 2 saturation, 3 hue.
    factors
        (2, B, 4) float32: brightness, contrast, saturation (1: as it is), hue in turns (0: as it is).
    grey
        (2, B) bool.
    sigma
        (2, B) float32: deviation of the blur in pixels; 0: none.
    """

    order: npt.NDArray[np.int8]
    factors: npt.NDArray[np.float32]
    grey: npt.NDArray[np.bool_]
    sigma: npt.NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence["ColourParameters"]) -> "ColourParameters":
        """Join the parts of a batch, each (2, B_i, ...), along the batch axis."""
        return cls(*(np.concatenate(arrays, axis=1) for arrays in zip(*map(cls._arrays, parts), strict=True)))

    def replaced(self, i: int, other: "ColourParameters") -> "ColourParameters":
        """Return a copy in which image `i` of (2, B) has the parameters of `other`, a batch of one image."""
        copy = ColourParameters(*(array.copy() for array in self._arrays()))
        for mine, theirs in zip(copy._arrays(), other._arrays(), strict=True):
            mine[:, i] = theirs[:, 0]
        return copy

    def part(self, images: slice) -> "ColourParameters":
        """Take some images of (2, B), with both their views."""
        return ColourParameters(*(array[:, images] for array in self._arrays()))

    def flatten(self) -> "ColourParameters":
        """Merge the leading axes into one of M = 2B views: the first views of all images, then the second."""
        return ColourParameters(
            self.order.reshape(-1, 4), self.factors.reshape(-1, 4), self.grey.ravel(), self.sigma.ravel()
        )

    def __getitem__(self, index: slice) -> "ColourParameters":
        """Take a part along the first axis."""
        return ColourParameters(*(array[index] for array in self._arrays()))

    def __len__(self) -> int:
        """Length of the first axis."""
        return len(self.sigma)

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.order, self.factors, self.grey, self.sigma


@dataclass(frozen=True, slots=True)
class ViewParameters:
    """The two views of each of B images.

    Attributes
    ----------
    crop
        (2, B, 22) float64 in [0, 1): the numbers of `crop_box`, whose result depends on the image's size.
    flip
        (2, B) bool: mirrored left to right.
    angle
        (2, B) float64: degrees, clockwise.
    shift
        (2, B, 2) int64: pixels of the view, to the right and down.
    zoom
        (2, B) float64.
    colour
        What is done on the device.
    """

    crop: npt.NDArray[np.float64]
    flip: npt.NDArray[np.bool_]
    angle: npt.NDArray[np.float64]
    shift: npt.NDArray[np.int64]
    zoom: npt.NDArray[np.float64]
    colour: ColourParameters


def draw_views(
    settings: Views, seed: int, epoch: int, samples: npt.NDArray[np.int64], views: int = VIEWS
) -> ViewParameters:
    """Draw the views of a batch; those of a sample depend on (settings, seed, epoch, sample) alone.

    Parameters
    ----------
    settings
        The config's section.
    seed, epoch
        From 0 to 2**32 - 1.
    samples
        Shape (B,): which samples of the data set.
    views
        How many of each: where training has 2 on the first axis, there are so many.
    """
    u = np.stack([uniforms(seed, epoch, samples, view, _SLOTS) for view in range(views)])  # (views, B, slots)
    reach = settings.translate * settings.size
    params = ViewParameters(
        crop=u[..., _CROP],
        flip=u[..., _FLIP] < settings.flip,
        angle=_between(u[..., _ANGLE], -settings.rotate, settings.rotate),
        shift=np.rint(_between(u[..., _SHIFT], -reach, reach)).astype(np.int64),
        zoom=_between(u[..., _ZOOM], *settings.zoom),
        colour=_draw_colour(settings, u),
    )
    _leave_as_it_is(params, slice(views - settings.raw, None))
    return params


def is_cropped(settings: Views, view: int, views: int = VIEWS) -> bool:
    """Tell whether a view of so many is a crop; else it is the whole image, resized."""
    return settings.crop_scale is not None and view < views - settings.raw


def _leave_as_it_is(params: ViewParameters, views: slice) -> None:
    """Give some views the parameters that change nothing; the crop is left out by `is_cropped`."""
    for array in (params.flip, params.angle, params.shift, params.colour.grey, params.colour.sigma):
        array[views] = 0
    params.zoom[views] = 1
    params.colour.factors[views] = NEUTRAL


def _draw_colour(settings: Views, u: npt.NDArray[np.float64]) -> ColourParameters:
    spread = settings.strength * np.array(
        (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    )
    low = NEUTRAL - spread
    low[:HUE] = low[:HUE].clip(min=0)
    factors = _between(u[..., _FACTORS], low, NEUTRAL + spread)
    jittered = u[..., _JITTER, None] < settings.jitter
    sigma = _between(u[..., _SIGMA], *settings.blur_sigma)
    return ColourParameters(
        order=_ORDERS[(u[..., _ORDER] * len(_ORDERS)).astype(np.intp)],
        factors=np.where(jittered, factors, NEUTRAL).astype(np.float32),
        grey=u[..., _GREY] < settings.grey,
        sigma=np.where(u[..., _BLUR] < settings.blur, sigma, 0).astype(np.float32),
    )


def _between(
    u: npt.NDArray[np.float64],
    low: float | npt.NDArray[np.float64],
    high: float | npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    return low + u * (high - low)


def crop_box(
    u: npt.NDArray[np.float64],
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Return the crop that torchvision's RandomResizedCrop.get_params takes when it draws `u`.

    Up to ten tries of a share of the area and an aspect ratio (uniform in its logarithm); if none fits into
    the image, the largest central crop whose ratio is in range.

    Parameters
    ----------
    u
        Shape (22,), in [0, 1): (area, ratio) of each try, then the place from top and left.
    width, height
        Of the image in pixels.
    scale
        Range of the share of the image's area.
    ratio
        Range of width to height.

    Returns
    -------
    tuple of int
        left, top, width, height; never empty (where torchvision's rounds to nothing, one pixel is taken).
    """
    numbers = u.tolist()
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_CROP_TRIES):
        area = width * height * (scale[0] + numbers[2 * attempt] * (scale[1] - scale[0]))
        aspect = math.exp(low + numbers[2 * attempt + 1] * (high - low))
        w = round(math.sqrt(area * aspect))
        h = round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(numbers[-2] * (height - h + 1))
            left = int(numbers[-1] * (width - w + 1))
            return left, top, w, h
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (width - w) // 2, (height - h) // 2, w, h
