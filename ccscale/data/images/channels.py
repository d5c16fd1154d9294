"""Images of channels: kept as they are stored, each channel brought to 0 to 1, and never to 8 bits.

What a file's numbers become:

    uint8, uint16, int16       as they are
    other whole numbers        float32
    float16, float32, float64  float32; bad where one is no finite number
    PNG, JPEG and others       as `decode.py` reads them: 1 channel of grey (8 or 16 bits), 3 of colours,
                               4 with alpha
    PNG of 16-bit colours      bad: Pillow reads half of their bits

A channel is a Pillow image of floating-point numbers (mode F) from then on: what cuts and turns RGB cuts and turns
it, by the same lines of code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.config import RANGES, Model
from ccscale.data.images.decode import MAX_PIXELS, Box, Encoded, decode, open_image, upright
from ccscale.data.images.dicom import is_dicom, read_dicom
from ccscale.data.images.tiff import MAGICS, read_tiff
from ccscale.errors import BadImage, InputError

_OF_PHOTOGRAPHS = (1, 3, 4)
_SHOWN = (0.5, 99.5)  # percentiles of an image's channel that are black and full in a picture


@dataclass(frozen=True, slots=True)
class Channels:
    """What the numbers of images mean.

    Attributes
    ----------
    type
        Theirs: uint8, uint16, int16 or float32.
    low, high
        What becomes 0 and 1, for each channel; what is beyond is cut off.
    """

    type: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, model: Model) -> Self | None:
        """Return what a network's config says; None where images are RGB of 8 bits.

        Raises
        ------
        InputError
            If it does not say all of it.
        """
        if not model.of_channels:
            return None
        pixels = model.pixels
        low, high = pixels.low, pixels.high
        if pixels.type in RANGES and pixels.scale != "percentiles":
            least, greatest = RANGES[pixels.type]
            low, high = low or (least,) * model.in_chans, high or (greatest,) * model.in_chans
        if pixels.type is None or low is None or high is None:
            raise InputError(
                f"the value range of {model.in_chans} channels is unknown: train on shards made with "
                f"`ccscale shards make --channels {model.in_chans}`, or set model.pixels.type, low and "
                "high"
            )
        return cls(pixels.type, low, high)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.low)


@dataclass(frozen=True, slots=True)
class Planes:
    """An image of channels, decoded: a Pillow image (mode F) for each."""

    planes: tuple[Image.Image, ...]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.planes[0].width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.planes[0].height


def open_planes(data: bytes, channels: Channels | None, most_pixels: int = MAX_PIXELS) -> Encoded | Planes:
    """Read an image of channels; of RGB the header.

    Raises
    ------
    BadImage
        If it cannot be decoded, or has other channels or numbers of another type.
    """
    if channels is None:
        return open_image(data, most_pixels)
    values = read_values(data, most_pixels)
    if values.shape[2] != len(channels):
        raise BadImage(f"it has {values.shape[2]} channels, not {len(channels)}")
    if values.dtype != channels.type:
        raise BadImage(f"its pixel type is {values.dtype}, not {channels.type}")
    planes = []
    for number, (low, high) in enumerate(zip(channels.low, channels.high, strict=True)):
        plane = values[..., number].astype(np.float32)
        plane -= np.float32(low)
        plane /= np.float32(high - low)
        planes.append(Image.fromarray(plane.clip(0, 1, out=plane)))
    return Planes(tuple(planes))


def decode_planes(
    image: Encoded | Planes, boxes: Sequence[Box], size: int | None
) -> tuple[tuple[Image.Image, ...], list[Box]]:
    """Decode to one image of RGB, or to one of each channel; the boxes as `decode` has them."""
    if isinstance(image, Planes):
        return image.planes, list(boxes)
    pixels, boxes = decode(image, boxes, size)
    return (pixels,), boxes


def joined(planes: Sequence[Image.Image]) -> npt.NDArray[Any]:
    """Return RGB as (height, width, 3) uint8, channels as (height, width, C) float32."""
    if planes[0].mode == "F":
        return np.stack([np.asarray(plane) for plane in planes], axis=-1)
    (image,) = planes
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8)  # np.asarray takes half as long again
    return pixels.reshape(image.height, image.width, 3)


def empty_images(shape: Sequence[int], channels: Channels | None) -> npt.NDArray[Any]:
    """Return black images, (..., 3) uint8, or (..., C) float32 of channels; `shape` is what is before that axis."""
    if channels is None:
        return np.zeros((*shape, 3), dtype=np.uint8)
    return np.zeros((*shape, len(channels)), dtype=np.float32)


def read_values(data: bytes, most_pixels: int = MAX_PIXELS) -> npt.NDArray[Any]:
    """Return the numbers of an image, (height, width, channels), uint8, uint16, int16 or float32; see the module.

    Raises
    ------
    BadImage
        If it cannot be decoded.
    """
    if data.startswith(MAGICS):
        values = read_tiff(data, most_pixels)
    elif is_dicom(data):
        values = read_dicom(data, most_pixels)
    else:
        encoded = open_image(data, most_pixels)
        if encoded.depth == 16 and encoded.image.mode.startswith("RGB"):
            raise BadImage("it is a 16-bit colour PNG, which would lose half its bits: save it as TIFF")
        image = upright(encoded)
        image = image.convert("RGB") if image.mode == "P" else image
        values = np.atleast_3d(np.asarray(image.convert("L") if image.mode == "1" else image))
    if values.dtype.kind not in "uif":
        raise BadImage(f"its pixel type is {values.dtype}, which does not represent intensities")
    if str(values.dtype) not in RANGES:
        values = values.astype(np.float32)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise BadImage(f"{count:,} of its values are not finite (NaN or infinite): replace them first")
    return values


def other_channels(data: bytes) -> int | None:
    """Return how many channels a TIFF or DICOM has that can be no photograph; None if it may be one, or is bad."""
    if not (data.startswith(MAGICS) or is_dicom(data)):
        return None
    try:
        channels = int(read_values(data).shape[2])
    except BadImage:
        return None
    return None if channels in _OF_PHOTOGRAPHS else channels


def size_of(data: bytes) -> tuple[int, int]:
    """Return the width and height of an image of any kind, in pixels; raises BadImage."""
    try:
        image = open_image(data)
    except BadImage:
        if not data.startswith(MAGICS):
            raise
        height, width, _ = read_values(data).shape
        return width, height
    return image.width, image.height


def open_picture(data: bytes, shown: Sequence[int] | None) -> Encoded:
    """Open an image for people to look at: what `decode` and `upright` take.

    Of channels some are shown as red, green and blue, each from the 0.5th to the 99.5th percentile of the image;
    one as grey, two as red and green.

    Parameters
    ----------
    data
        The encoded image.
    shown
        Which channels of those that it has; None: it is RGB of 8 bits.

    Raises
    ------
    BadImage
        If it cannot be decoded.
    """
    if shown is None:
        return open_image(data)
    return Encoded.of(Image.fromarray(as_rgb(read_values(data), shown)))


def as_rgb(values: npt.NDArray[Any], shown: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return channels (height, width, C) as RGB of 8 bits, (height, width, 3); see `open_picture`."""
    chosen = [channel for channel in shown if channel < values.shape[2]][:3] or [0]
    rgb = np.zeros((*values.shape[:2], 3), dtype=np.uint8)
    for place, channel in enumerate(chosen):
        plane = values[..., channel]
        low, high = (float(end) for end in np.percentile(plane, _SHOWN))
        if high <= low:  # hardly anything in it
            low, high = float(plane.min()), float(plane.max())
        scaled = (plane.astype(np.float32) - low) * (255 / max(high - low, 1e-30))
        rgb[..., place] = scaled.clip(0, 255).round()
    return rgb[..., [0, 0, 0]] if len(chosen) == 1 else rgb
