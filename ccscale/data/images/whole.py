"""The whole of an image, resized, as evaluation sees it; knows nothing of torch, which takes seconds to load."""

import math
from typing import Any

import numpy.typing as npt
from PIL import Image

from ccscale.data.images.channels import Channels, decode_planes, joined, open_planes
from ccscale.data.images.decode import MAX_PIXELS, Box, crop


def whole_image(
    data: bytes,
    size: int,
    scaled_decode: bool = True,
    most_pixels: int = MAX_PIXELS,
    channels: Channels | None = None,
) -> npt.NDArray[Any]:
    """Decode an image and resize the whole of it, as evaluation sees it.

    Parameters
    ----------
    data
        The encoded image.
    size
        Side of the result in pixels; the aspect ratio is not kept.
    scaled_decode
        Decode a JPEG at the smallest DCT scale that serves.
    most_pixels
        As `open_image`'s.
    channels
        What an image's numbers mean; None: RGB of 8 bits.

    Returns
    -------
    numpy.ndarray
        Shape (size, size, 3), uint8, RGB; of channels (size, size, C), float32, 0 to 1.

    Raises
    ------
    BadImage
        If the data cannot be decoded.
    """
    encoded = open_planes(data, channels, most_pixels)
    whole = (0, 0, encoded.width, encoded.height)
    planes, (box,) = decode_planes(encoded, [whole], size if scaled_decode else None)
    return joined([resized_part(plane, box, size) for plane in planes]).copy()


def resized_part(image: Image.Image, box: Box, size: int) -> Image.Image:
    """Cut a part out of an image and resize it to a square."""
    # Cropped first, as torchvision does it: otherwise the resize sees the neighbours of the crop, and Pillow may
    # take its two passes in the other order. A box of a reduced image need not lie on whole pixels.
    left, top, right, bottom = box
    x, y = math.floor(left), math.floor(top)
    part = crop(image, (x, y, math.ceil(right), math.ceil(bottom)))
    return part.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left - x, top - y, right - x, bottom - y)
    )
