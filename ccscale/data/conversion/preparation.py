"""Prepares an image for a shard: checks it, and re-encodes it only if requested."""

import io
from dataclasses import dataclass

from PIL import Image

from ccscale.config import MOST_CHANNELS
from ccscale.data.conversion.channel_files import prepare_channels
from ccscale.data.images.channels import other_channels
from ccscale.data.images.decode import open_image, upright
from ccscale.data.images.pixels import eight_bits, over_white
from ccscale.errors import BadImage, InputError, did_you_mean

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}  # extension to Pillow's name
EXTENSIONS = {name: extension for extension, name in FORMATS.items()}


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images are stored.

    Attributes
    ----------
    resize
        Length in pixels that the short side is reduced to; images are never enlarged. None: as they are.
    format
        ``"jpg"``, ``"png"`` or ``"webp"``; None: each image's own.
    quality
        1 to 100, of images that are encoded anew as JPEG or WebP. From 90 on, JPEG keeps full colour resolution.
    channels
        Images are of this many channels, and kept as they are stored: TIFFs as they are, DICOM as a TIFF of the
        numbers that it means. None: they are RGB of 8 bits.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    resize: int | None = None
    format: str | None = None
    quality: int = 95
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < 1:
            raise InputError(f"resize is {self.resize}: give the length of the short side, at least 1 pixel")
        if self.format is not None and self.format not in FORMATS:
            hint = did_you_mean(self.format, FORMATS) or f"; the formats are {', '.join(FORMATS)}"
            raise InputError(f"there is no format {self.format!r}{hint}")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality}: it must be from 1 to 100")
        if self.channels is None:
            return
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise InputError(f"channels is {self.channels}: it must be from 1 to {MOST_CHANNELS}")
        if self.format is not None:
            raise InputError(
                f"with channels images are kept as stored, but format is {self.format}: leave one of the "
                "two out"
            )

    @property
    def keeps_bytes(self) -> bool:
        """Whether images in a format that shards hold are stored as they are."""
        return self.resize is None and self.format is None


def prepare(data: bytes, preparation: Preparation) -> tuple[bytes, str]:
    """Check an image by decoding it in full and return what to store: (bytes, extension).

    The format is told from the content, not from a file name. The bytes are kept unless preparation or format
    forbid it: with their metadata, by which they are turned whenever they are read. What is encoded anew is
    turned upright and loses its metadata; JPEG has its transparency laid over white, and only a PNG that is not
    reduced keeps 16 bits.

    Raises
    ------
    BadImage
        With the reason.
    """
    if preparation.channels is not None:
        return prepare_channels(data, preparation.channels, preparation.resize)
    try:
        encoded = open_image(data)
        image = upright(encoded)
    except BadImage:
        if (channels := other_channels(data)) is None:
            raise
        raise BadImage(f"it has {channels} channels, and --channels {channels} keeps it as it is") from None
    own = EXTENSIONS.get(encoded.image.format or "")
    extension = preparation.format or own or "png"
    short = min(image.size)
    shrinks = preparation.resize is not None and preparation.resize < short
    if extension == own and not shrinks:
        return data, extension
    if shrinks:
        assert preparation.resize is not None
        width, height = (max(1, round(side * preparation.resize / short)) for side in image.size)
        image = _smooth(image).resize((width, height), Image.Resampling.BICUBIC)
    try:
        return _encode(image, extension, preparation.quality), extension
    except (OSError, ValueError):  # a side is longer than the format has numbers for
        raise BadImage(f"{image.width} x {image.height} pixels do not fit into {extension}") from None


def _smooth(image: Image.Image) -> Image.Image:
    """Convert to a mode in which pixels can be averaged."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "I;16":
        return eight_bits(image)
    return image.convert("L") if image.mode == "1" else image


def _encode(image: Image.Image, extension: str, quality: int) -> bytes:
    encoded = io.BytesIO()
    # Bytes must follow from the pixels: nothing of the original's metadata goes along (transparency is pixels).
    image.info = {name: value for name, value in image.info.items() if name == "transparency"}
    if extension == "png":
        image.save(encoded, "PNG")
        return encoded.getvalue()
    if image.mode == "I;16":
        image = eight_bits(image)
    if extension == "jpg":
        image = image.convert("L") if image.mode in ("1", "L") else over_white(image)
        image.save(encoded, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
    else:
        transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
        image.convert("RGBA" if transparent else "RGB").save(encoded, "WEBP", quality=quality, method=4)
    return encoded.getvalue()
