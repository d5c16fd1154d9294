"""The random parameters of views: what torchvision's transforms would draw, for a whole batch at once.

An image's view is (paper, section "Data augmentation")

    RandomResizedCrop - RandomAffine - RandomHorizontalFlip      geometry, on the worker   (crops.py)
    - RandAugment - cutout                                       pixels, on the worker     (rand_augment.py)
    - intensity - noise                                          channels, on the worker   (intensity.py)
    - ColorJitter - RandomGrayscale - GaussianBlur               colour, on the device     (colour.py)

Each parameter has a slot of its own among the uniform numbers of the sample's view (philox.py), used or not:
switching one operation off leaves the draws of the others as they are. Each view has settings of its own: the two
of a pair have the same ones, but for the last `raw` of them (paper, Table 3), which leave an image as it is; a weak
and a strong view have different ones.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ccscale.config import MOST_OPERATIONS, Views
from ccscale.data.images.intensity import SLOTS as INTENSITY_SLOTS
from ccscale.data.images.intensity import IntensityParameters, draw_intensity
from ccscale.data.images.rand_augment import OPERATIONS
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
_PLAIN_SLOTS = 36  # what is drawn where no view has RandAugment or cutout
_OPERATIONS = slice(36, 36 + MOST_OPERATIONS)
_BACKWARDS = slice(44, 44 + MOST_OPERATIONS)  # is an operation's magnitude turned round?
_HOLE = slice(52, 54)  # middle of the cutout: from left, top
_OPERATION_SLOTS = 54  # what is drawn where no view has intensity or noise
_INTENSITY = slice(54, 54 + INTENSITY_SLOTS)
_SLOTS = 54 + INTENSITY_SLOTS

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
    def stack(cls, views: Sequence["ColourParameters"]) -> "ColourParameters":
        """Join views, each (B, ...), to (V, B, ...)."""
        return cls(*(np.stack(arrays) for arrays in zip(*map(cls._arrays, views), strict=True)))

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
        """Merge the leading axes into one of M = 2B views: the first views of all images, then the second ones."""
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
    """The views of each of B images; two of them where the first axis has length 2.

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
    operations
        (2, B, 8) int8: of RandAugment by their numbers, first to last; -1: none.
    backwards
        (2, B, 8) bool: an operation that has a direction goes the other way.
    hole
        (2, B, 4) int64: left, top, right, bottom of the cutout in pixels of the view; all 0: none.
    colour
        What is done on the device.
    intensity
        What is done to the intensities of channels; None where no view has such a thing.
    """

    crop: npt.NDArray[np.float64]
    flip: npt.NDArray[np.bool_]
    angle: npt.NDArray[np.float64]
    shift: npt.NDArray[np.int64]
    zoom: npt.NDArray[np.float64]
    operations: npt.NDArray[np.int8]
    backwards: npt.NDArray[np.bool_]
    hole: npt.NDArray[np.int64]
    colour: ColourParameters
    intensity: IntensityParameters | None = None

    @classmethod
    def stack(cls, views: Sequence["ViewParameters"]) -> "ViewParameters":
        """Join views, each (B, ...), to (V, B, ...)."""
        names = [field.name for field in fields(cls) if field.name not in ("colour", "intensity")]
        arrays = {name: np.stack([getattr(view, name) for view in views]) for name in names}
        intensities = [view.intensity for view in views if view.intensity is not None]
        return cls(
            **arrays,
            colour=ColourParameters.stack([view.colour for view in views]),
            intensity=IntensityParameters.stack(intensities) if intensities else None,
        )


def draw_views(
    settings: Views | Sequence[Views],
    seed: int,
    epoch: int,
    samples: npt.NDArray[np.int64],
    views: int = VIEWS,
) -> ViewParameters:
    """Draw the views of a batch; those of a sample depend on (settings, seed, epoch, sample) alone.

    Parameters
    ----------
    settings
        The config's section; or the settings of each view, which has the random numbers of its place among them.
    seed, epoch
        From 0 to 2**32 - 1.
    samples
        Shape (B,): which samples of the data set.
    views
        How many of each where there is but one section: where training has 2 on the first axis, there are so many.
    """
    each = settings_of_each(settings, views)
    slots = _OPERATION_SLOTS if any(view.rand_augment or view.cutout for view in each) else _PLAIN_SLOTS
    slots = _SLOTS if any(view.of_channels for view in each) else slots
    return ViewParameters.stack(
        [_draw_view(view, uniforms(seed, epoch, samples, number, slots)) for number, view in enumerate(each)]
    )


def settings_of_each(settings: Views | Sequence[Views], views: int) -> Sequence[Views]:
    """Return the settings of each of this many views of an image."""
    return settings.each(views) if isinstance(settings, Views) else settings


def _draw_view(settings: Views, u: npt.NDArray[np.float64]) -> ViewParameters:
    """Return the parameters of one view of each image, (B, ...), by its numbers (B, slots)."""
    reach = settings.translate * settings.size
    operations, backwards = _draw_operations(settings, u)
    return ViewParameters(
        crop=u[:, _CROP],
        flip=u[:, _FLIP] < settings.flip,
        angle=_between(u[:, _ANGLE], -settings.rotate, settings.rotate),
        shift=np.rint(_between(u[:, _SHIFT], -reach, reach)).astype(np.int64),
        zoom=_between(u[:, _ZOOM], *settings.zoom),
        operations=operations,
        backwards=backwards,
        hole=_draw_hole(settings, u),
        colour=_draw_colour(settings, u),
        intensity=draw_intensity(settings, u[:, _INTENSITY]) if u.shape[1] == _SLOTS else None,
    )


def _draw_operations(
    settings: Views, u: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Return RandAugment's operations, each as likely as another, and which go backwards: half of them."""
    count = settings.rand_augment
    operations = np.full((len(u), MOST_OPERATIONS), -1, dtype=np.int8)
    backwards = np.zeros((len(u), MOST_OPERATIONS), dtype=bool)
    if count:
        operations[:, :count] = (u[:, _OPERATIONS] * len(OPERATIONS)).astype(np.int8)[:, :count]
        backwards[:, :count] = (u[:, _BACKWARDS] < 0.5)[:, :count]
    return operations, backwards


def _draw_hole(settings: Views, u: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the cutout's square, its middle anywhere in the image (DeVries and Taylor, 2017)."""
    side = round(settings.cutout * settings.size)
    if not side:
        return np.zeros((len(u), 4), dtype=np.int64)
    first = (u[:, _HOLE] * settings.size).astype(np.int64) - side // 2
    return np.hstack([first, first + side]).clip(0, settings.size)


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
