"""The geometry of views, on the worker: an encoded image is decoded once and both crops are taken from it."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.config import Views
from ccscale.data.images.decode import Box, Encoded, crop, decode, open_image
from ccscale.data.images.views import ViewParameters, crop_box, is_cropped


def crop_views(
    data: bytes, settings: Views, params: ViewParameters, i: int, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image and crop its two views, or as many as `params` were drawn for.

    Parameters
    ----------
    data
        The encoded image.
    settings
        The config's section; the one that `params` were drawn with.
    params
        The views of a batch.
    i
        Which image of the batch this is.
    out
        Shape (2, size, size, 3), uint8: where to write; by default a new array.

    Returns
    -------
    numpy.ndarray
        Shape (2, size, size, 3), uint8, RGB.

    Raises
    ------
    BadImage
        If the data cannot be decoded.
    """
    size = settings.size
    if out is None:
        out = np.empty((len(params.flip), size, size, 3), dtype=np.uint8)
    encoded = open_image(data)
    boxes = [_view_box(encoded, settings, params, view, i) for view in range(len(params.flip))]
    image, boxes = decode(encoded, boxes, size if settings.scaled_decode else None)
    affine = settings.rotate > 0 or settings.translate > 0 or settings.zoom != (1, 1)
    for view, box in enumerate(boxes):
        seen = _resize(image, box, size)
        if affine:
            matrix = _inverse_affine(size, params.angle[view, i], params.shift[view, i], params.zoom[view, i])
            seen = seen.transform(seen.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        if params.flip[view, i]:
            seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.frombuffer(seen.tobytes(), dtype=np.uint8)  # np.asarray takes half as long again
        out[view] = pixels.reshape(size, size, 3)
    return out


def whole_image(data: bytes, size: int, scaled_decode: bool = True) -> npt.NDArray[np.uint8]:
    """Decode an image and resize the whole of it, as evaluation sees it.

    Parameters
    ----------
    data
        The encoded image.
    size
        Side of the result in pixels; the aspect ratio is not kept.
    scaled_decode
        Decode a JPEG at the smallest DCT scale that serves.

    Returns
    -------
    numpy.ndarray
        Shape (size, size, 3), uint8, RGB.

    Raises
    ------
    BadImage
        If the data cannot be decoded.
    """
    encoded = open_image(data)
    image, (box,) = decode(encoded, [(0, 0, encoded.width, encoded.height)], size if scaled_decode else None)
    return np.array(_resize(image, box, size))


def _resize(image: Image.Image, box: Box, size: int) -> Image.Image:
    # Cropped first, as torchvision does it: otherwise the resize sees the neighbours of the crop, and Pillow may
    # take its two passes in the other order. A box of a reduced image need not lie on whole pixels.
    left, top, right, bottom = box
    x, y = math.floor(left), math.floor(top)
    part = crop(image, (x, y, math.ceil(right), math.ceil(bottom)))
    return part.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left - x, top - y, right - x, bottom - y)
    )


def _view_box(encoded: Encoded, settings: Views, params: ViewParameters, view: int, i: int) -> Box:
    if settings.crop_scale is None or not is_cropped(settings, view, len(params.flip)):
        return (0, 0, encoded.width, encoded.height)
    left, top, width, height = crop_box(
        params.crop[view, i], encoded.width, encoded.height, settings.crop_scale, settings.crop_ratio
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
