"""Images in an array: grey or RGB, as scikit-learn's world has them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.data.sources.contents import Bytes, encode_png
from ccscale.data.sources.items import Item, Source, numbered_key
from ccscale.errors import InputError

Pixels = NDArray[np.uint8]
"""(n, height, width), or (n, height, width, 3)."""


def array_source(images: Pixels) -> Source:
    """Return a source of images without labels, one split."""
    items = [
        Item(numbered_key("image", i), Bytes(encode_png(image)), None, f"X[{i}]")
        for i, image in enumerate(images)
    ]
    return Source("images", "array", (), (), {"train": items})


def range_of(values: NDArray[Any], wanted: tuple[float, float] | str | None) -> tuple[float, float]:
    """Return the values of black and white, from the estimator's `value_range`."""
    if wanted is None:
        return (0.0, 255.0) if values.dtype == np.uint8 else (0.0, 1.0)
    if isinstance(wanted, str):
        if wanted != "fit":
            raise InputError(f"value_range is {wanted!r}; it is (black, white), 'fit' or None")
        return float(values.min()), float(values.max())
    low, high = (float(value) for value in wanted)
    if not low < high or not math.isfinite(high - low):
        raise InputError(f"value_range is ({low:g}, {high:g}); it is (black, white), the smaller first")
    return low, high


def to_pixels(
    values: NDArray[Any], image_shape: tuple[int, ...] | None, black: float, white: float, clip: bool
) -> Pixels:
    """Turn numbers into pixels.

    Parameters
    ----------
    values
        (n, height, width), (n, height, width, 3) or, with an image's shape, (n, numbers).
    image_shape
        Of an image in a row of numbers.
    black, white
        What becomes 0 and 255.
    clip
        Take what lies beyond for these; else it is refused.

    Raises
    ------
    InputError
        If these are no images, or their numbers have another range.
    """
    shape = values.shape
    if image_shape is not None:
        if values.ndim != 2:
            raise InputError(f"X has the shape {shape}; with image_shape it is (n, numbers in an image)")
        try:
            values = values.reshape(len(values), *image_shape)
        except (ValueError, TypeError):
            raise InputError(
                f"a row of X has {shape[1]} values, which do not form an image of shape {image_shape}: "
                "set image_shape"
            ) from None
    if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[3] != 3) or 0 in values.shape:
        raise InputError(
            f"X has the shape {shape}; it holds images as (n, height, width) or (n, height, width, 3); rows of "
            "numbers need image_shape"
        )
    if image_shape is None and values.ndim == 3 and values.shape[2] == 3:
        raise InputError(
            f"X has the shape {shape}, which is that of one RGB image: X[None] makes it an array of one; grey "
            "images 3 pixels wide need image_shape"
        )
    if not clip:
        least, most = float(values.min()), float(values.max())
        if least < black or most > white:
            raise InputError(
                f"X has values from {least:g} to {most:g}, but {values.dtype} images range from {black:g} "
                f"to {white:g}: set value_range=(black, white)"
            )
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        return values
    scaled = (values.astype(np.float64) - black) * (255 / (white - black) if white > black else 0)
    pixels: Pixels = scaled.clip(0, 255).round().astype(np.uint8)
    return pixels
