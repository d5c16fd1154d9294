"""The geometry of views, on the worker: an encoded image is decoded once and both crops are cut from it.

A JPEG is decoded at the smallest DCT scale (1/8, 1/4, 1/2, 1) at which no crop has fewer pixels than the view
that is made of it: most of an image's time is spent on pixels that the resize would average away.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from ccscale.config import Views
from ccscale.data.views import VIEWS, ViewParameters, crop_box
from ccscale.errors import BadImage

# Only these are tried: among Pillow's others is one (EPS) that hands the data to another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_DCT_SCALES = (8, 4, 2)

_Box = tuple[float, float, float, float]  # left, top, right, bottom


def cut_views(
    data: bytes, settings: Views, params: ViewParameters, i: int, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image and cut its two views.

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
        out = np.empty((VIEWS, size, size, 3), dtype=np.uint8)
    encoded = _open(data)
    boxes = [_view_box(encoded, settings, params.crop[view, i]) for view in range(VIEWS)]
    image, boxes = _decode(encoded, boxes, size if settings.scaled_decode else None)
    affine = settings.rotate > 0 or settings.translate > 0 or settings.zoom != (1, 1)
    for view, box in enumerate(boxes):
        cut = _resize(image, box, size)
        if affine:
            matrix = _inverse_affine(size, params.angle[view, i], params.shift[view, i], params.zoom[view, i])
            cut = cut.transform(cut.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        if params.flip[view, i]:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out[view] = np.asarray(cut)
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
    encoded = _open(data)
    image, (box,) = _decode(encoded, [(0, 0, *encoded.size)], size if scaled_decode else None)
    return np.array(_resize(image, box, size))


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header."""
    if not data:
        raise BadImage("it has no bytes")
    with _bad_image():
        return Image.open(io.BytesIO(data), formats=_FORMATS)


def _decode(
    encoded: ImageFile.ImageFile, boxes: Sequence[_Box], size: int | None
) -> tuple[Image.Image, list[_Box]]:
    """Decode to RGB; return the image and the boxes in its pixels.

    With `size` a JPEG is reduced as far as all boxes stay at least that large in both directions.
    """
    scale = 1
    if size is not None and encoded.format in ("JPEG", "MPO"):
        side = min(min(right - left, bottom - top) for left, top, right, bottom in boxes)
        scale = next((s for s in _DCT_SCALES if side >= s * size), 1)
    with _bad_image():
        if scale > 1:
            # Pillow takes the largest scale that leaves at least this many pixels, which is `scale`.
            encoded.draft(None, (encoded.width // scale, encoded.height // scale))
        encoded.load()
        image = encoded if encoded.mode == "RGB" else encoded.convert("RGB")
    # A decoded pixel covers scale x scale pixels of the original; the last ones may reach beyond its edge.
    return image, [
        (left / scale, top / scale, right / scale, bottom / scale) for left, top, right, bottom in boxes
    ]


def _resize(image: Image.Image, box: _Box, size: int) -> Image.Image:
    # Cropped first, as torchvision does it: otherwise the resize sees the neighbours of the crop, and Pillow may
    # take its two passes in the other order. A box of a reduced image need not lie on whole pixels.
    left, top, right, bottom = box
    x, y = math.floor(left), math.floor(top)
    crop = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    return crop.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left - x, top - y, right - x, bottom - y)
    )


@contextmanager
def _bad_image() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise BadImage(f"it is no image in a known format ({', '.join(_FORMATS)})") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders let out whatever they stumble over in broken data
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


def _view_box(image: Image.Image, settings: Views, u: npt.NDArray[np.float64]) -> _Box:
    if settings.crop_scale is None:
        return (0, 0, image.width, image.height)
    left, top, width, height = crop_box(
        u, image.width, image.height, settings.crop_scale, settings.crop_ratio
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
