"""RandAugment's operations on pixels of 8 bits: torchvision's table of fourteen (Cubuk et al., 2020, section 3).

Each has a magnitude in steps from 0 (next to nothing changes) to 30; those with a direction go either way. Like
torchvision's own they are Pillow's, with the same magnitudes, so the result is the same to the last bit; what comes
from outside the image is black. They are no part of what is done on the device: they mix geometry and colour in any
order, and some of them (equalize, posterize) are defined on 8 bits alone.
"""

from collections.abc import Callable
from functools import cache
from math import atan, ceil, degrees, radians, tan
from typing import NamedTuple

import torch
from PIL import Image, ImageEnhance, ImageOps

STEPS = 30


class Operation(NamedTuple):
    """One of the fourteen."""

    name: str
    """torchvision's."""
    first: float
    """Its magnitude at step 0, in its own unit."""
    last: float
    """At step 30; between them it goes straight."""
    has_direction: bool
    change: Callable[[Image.Image, float], Image.Image]
    """The image by a magnitude, which is below 0 where it goes backwards."""


def carry_out(image: Image.Image, operation: int, steps: int, backwards: bool) -> Image.Image:
    """Carry out an operation.

    Parameters
    ----------
    image
        RGB.
    operation
        Its number in `OPERATIONS`.
    steps
        Its magnitude, 0 to 30.
    backwards
        Turn the magnitude round, where the operation has a direction.
    """
    chosen = OPERATIONS[operation]
    magnitude = magnitudes(operation, image.width)[steps]
    return chosen.change(image, -magnitude if backwards and chosen.has_direction else magnitude)


@cache
def magnitudes(operation: int, side: int) -> list[float]:
    """Return the magnitudes (31,) of an operation for images of this size, in float32 as in torchvision."""
    name, first, last, *_ = OPERATIONS[operation]
    if name in _SHIFTS:
        last *= side
    return torch.linspace(first, last, STEPS + 1).tolist()


def _affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Map a pixel (x, y) of the result to (ax + by + c, dx + ey + f) of the image."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _slope(m: float) -> float:
    """Return a shear as torchvision rounds it, on the way to degrees and back."""
    return tan(radians(degrees(atan(m))))


_SHIFTS = ("TranslateX", "TranslateY")
_SHIFT = 150.0 / 331.0  # of the side: the paper's images had 331 pixels

OPERATIONS = (
    Operation("Identity", 0, 0, False, lambda image, _: image),
    Operation("ShearX", 0, 0.3, True, lambda image, m: _affine(image, (1, _slope(m), 0, 0, 1, 0))),
    Operation("ShearY", 0, 0.3, True, lambda image, m: _affine(image, (1, 0, 0, _slope(m), 1, 0))),
    Operation("TranslateX", 0, _SHIFT, True, lambda image, m: _affine(image, (1, 0, -int(m), 0, 1, 0))),
    Operation("TranslateY", 0, _SHIFT, True, lambda image, m: _affine(image, (1, 0, 0, 0, 1, -int(m)))),
    Operation("Rotate", 0, 30, True, lambda image, m: image.rotate(m, Image.Resampling.BILINEAR)),
    Operation("Brightness", 0, 0.9, True, lambda image, m: ImageEnhance.Brightness(image).enhance(1 + m)),
    Operation("Color", 0, 0.9, True, lambda image, m: ImageEnhance.Color(image).enhance(1 + m)),
    Operation("Contrast", 0, 0.9, True, lambda image, m: ImageEnhance.Contrast(image).enhance(1 + m)),
    Operation("Sharpness", 0, 0.9, True, lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + m)),
    Operation(
        "Posterize", 8, 4, False, lambda image, m: ImageOps.posterize(image, round(m))
    ),  # bits that stay
    Operation(
        "Solarize", 255, 0, False, lambda image, m: ImageOps.solarize(image, ceil(m))
    ),  # inverted from m on
    Operation("AutoContrast", 0, 0, False, lambda image, _: ImageOps.autocontrast(image)),
    Operation("Equalize", 0, 0, False, lambda image, _: ImageOps.equalize(image)),
)
