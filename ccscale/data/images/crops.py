"""The geometry of views, on the worker: an encoded image is decoded once and all crops are taken from it.

So are RandAugment and cutout, which work on pixels of 8 bits, and intensity and noise, which are of channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.config import Views
from ccscale.data.images.channels import (
    Channels,
    Planes,
    decode_planes,
    empty_images,
    joined,
    open_planes,
)
from ccscale.data.images.decode import Box, Encoded
from ccscale.data.images.rand_augment import carry_out
from ccscale.data.images.views import ViewParameters, crop_box, settings_of_each
from ccscale.data.images.whole import resized_part

GREY = 128  # of a cutout


def crop_views(
    data: bytes,
    settings: Views | Sequence[Views],
    params: ViewParameters,
    i: int,
    out: npt.NDArray[Any] | None = None,
    channels: Channels | None = None,
) -> npt.NDArray[Any]:
    """Decode an image and crop its views.

    Parameters
    ----------
    data
        The encoded image.
    settings
        What `params` were drawn with: the config's section, or the settings of each view.
    params
        The views of a batch.
    i
        Which image of the batch this is.
    out
        Where to write; by default a new array.
    channels
        What an image's numbers mean; None: RGB of 8 bits.

    Returns
    -------
    numpy.ndarray
        Shape (V, size, size, 3), uint8, RGB; of channels (V, size, size, C), float32.

    Raises
    ------
    BadImage
        If the data cannot be decoded.
    """
    each = settings_of_each(settings, len(params.flip))
    size = each[0].size  # that, and how it is decoded, all views have in common
    if out is None:
        out = empty_images((len(each), size, size), channels)
    encoded = open_planes(data, channels)
    boxes = [_view_box(encoded, view, u) for view, u in zip(each, params.crop[:, i], strict=True)]
    planes, boxes = decode_planes(encoded, boxes, size if each[0].scaled_decode else None)
    # The whole image may be seen twice.
    resized = {box: [resized_part(plane, box, size) for plane in planes] for box in set(boxes)}
    for view, box in enumerate(boxes):
        out[view] = joined([_change(plane, each[view], params, view, i) for plane in resized[box]])
        if params.intensity is not None:
            params.intensity.change(out[view], view, i)
        left, top, right, bottom = params.hole[view, i].tolist()
        out[view, top:bottom, left:right] = GREY if channels is None else 0
    return out


def _change(seen: Image.Image, settings: Views, params: ViewParameters, view: int, i: int) -> Image.Image:
    """Turn, shift and mirror a view, and carry out RandAugment's operations."""
    if settings.rotate > 0 or settings.translate > 0 or settings.zoom != (1, 1):
        matrix = _inverse_affine(
            settings.size, params.angle[view, i], params.shift[view, i], params.zoom[view, i]
        )
        seen = seen.transform(seen.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if params.flip[view, i]:
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if settings.rand_augment:
        operations, backwards = params.operations[view, i].tolist(), params.backwards[view, i].tolist()
        for operation, turned in zip(operations, backwards, strict=True):
            if operation >= 0:
                seen = carry_out(seen, operation, settings.magnitude, turned)
    return seen


def _view_box(encoded: Encoded | Planes, settings: Views, u: npt.NDArray[np.float64]) -> Box:
    """Return the part of an image that a view is cut from, by the numbers of `crop_box`."""
    if settings.crop_scale is None:
        return (0, 0, encoded.width, encoded.height)
    left, top, width, height = crop_box(
        u, encoded.width, encoded.height, settings.crop_scale, settings.crop_ratio
    )
    return (left, top, left + width, top + height)


def _inverse_affine(
    size: int, angle: float, shift: npt.NDArray[np.int64], zoom: float
) -> tuple[float, float, float, float, float, float]:
    """Return the map from a pixel of the result to the source, as Pillow wants it.

    torchvision's _get_inverse_affine_matrix without shear: rotated by `angle` (degrees, clockwise) and scaled
    by `zoom` about the centre, then shifted.
    """
    centre = size * 0.5
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    x, y = -centre - float(shift[0]), -centre - float(shift[1])
    return (cos, sin, cos * x + sin * y + centre, -sin, cos, -sin * x + cos * y + centre)
