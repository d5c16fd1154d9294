"""Encoded images to upright RGB pixels of 8 bits; whatever reads an image reads it here, so all see the same.

What becomes of each kind, in training, evaluation, `read_images`, pictures and conversion alike:

    JPEG                      decoded at the smallest DCT scale that serves, see `decode`
    EXIF orientation          turned upright before anything else; boxes are in upright coordinates. The tag counts
                              (TIFF: as Pillow turns it), what XMP says does not; of AVIF, HEIC and JPEG XL what
                              their own headers say.
    CMYK, YCCK                to RGB by Pillow's formula, without colour profiles; Adobe's JPEGs are stored inverted
    grey, 1 bit, palette      to RGB
    transparency              (alpha, a transparent palette entry or colour) laid over white
    16-bit grey               v to round(v / 257), not clipped
    16-bit colour             the upper byte of each channel
    32-bit integers, floats   bad: they have no range of their own
    animations, MPO, pages    the first frame
    truncated                 bad, never half an image, whatever a library sets in Pillow
    changed bits in pixels    often decoded all the same (nothing checks them but a shard's hash: `shards verify`)
    more than MAX_PIXELS      bad, told from the header before any pixel is decoded; so are sides of 0
    bombs in metadata         bad: Pillow's limits on text chunks, profiles and tags hold
    HEIC, JPEG XL             by the extras `heif` and `jxl` (`formats.py`); without them bad, with the remedy
    DICOM                     by the extra `dicom`: what its window shows, as grey (`dicom.py`)
    other formats             (JPEG 2000, HDR, EPS, …) bad; EPS for one would be handed to another program

Bad means `BadImage` with the reason. A colour profile (ICC) is not applied, as in the common training pipelines.
"""

import ctypes
import io
import logging
import struct
import warnings
from collections.abc import Sequence
from types import TracebackType

from PIL import ExifTags, Image, ImageFile

from ccscale.data.images.dicom import dicom_picture, is_dicom
from ccscale.data.images.formats import claimed_size, reader_of
from ccscale.data.images.pixels import over_white, plain
from ccscale.errors import BadImage

# About 11,600 x 11,600: up to 0.5 GB as Pillow holds it, three times that with transparency.
MAX_PIXELS = 2**27

_DCT_SCALES = (8, 4, 2)
_ORIENTATION = ExifTags.Base.Orientation.value
_ORIENTATION_ENTRIES = struct.pack("<HH", _ORIENTATION, 3), struct.pack(">HH", _ORIENTATION, 3)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[float, float, float, float]  # left, top, right, bottom

logging.getLogger("PIL").addHandler(
    logging.NullHandler()
)  # else what nobody listens to goes to standard error


class Encoded:
    """An image whose header has been read; its pixels, as a rule, have not.

    Attributes
    ----------
    image
        Pillow's, as it is stored.
    orientation
        EXIF's, 1 to 8.
    width, height
        Of the upright image, in pixels.
    """

    __slots__ = ("depth", "height", "image", "orientation", "width")

    image: Image.Image

    def __init__(self, image: ImageFile.ImageFile, data: bytes, most_pixels: int) -> None:
        width, height = image.size
        _check_size(width, height, most_pixels)
        self.image = image
        self.depth = data[24] if image.format == "PNG" else 8
        if image.format == "JPEG":
            image.decodermaxblock = len(data)  # in one go, not in pieces that are joined again
        # Pillow turns a TIFF itself as it loads it; a PNG's EXIF may follow its pixels.
        if image.format == "TIFF" or (image.format == "PNG" and b"eXIf" in data):
            image.load()
            width, height = image.size
        self.orientation = _orientation(image)
        self.width, self.height = (width, height) if self.orientation < 5 else (height, width)

    @classmethod
    def of(cls, image: Image.Image) -> "Encoded":
        """Return what stands for an image whose pixels are there."""
        made = object.__new__(cls)
        made.image, made.depth, made.orientation = image, 8, 1
        made.width, made.height = image.size
        return made


def _check_size(width: int, height: int, most_pixels: int) -> None:
    if width * height > most_pixels:
        raise BadImage(f"it claims {width} x {height} pixels, above the limit of {most_pixels:,}")


def open_image(data: bytes, most_pixels: int = MAX_PIXELS) -> Encoded:
    """Read an image's header.

    Raises
    ------
    BadImage
        If it is no image that can be decoded.
    """
    if not data:
        raise BadImage("it has no bytes")
    if (claimed := claimed_size(data)) is not None:
        _check_size(*claimed, most_pixels)
    if is_dicom(data):
        return Encoded.of(dicom_picture(data, most_pixels))
    reader = reader_of(data)
    with _Pillow(most_pixels // 2):
        return Encoded(reader(io.BytesIO(data)), data, most_pixels)


def decode(encoded: Encoded, boxes: Sequence[Box], size: int | None) -> tuple[Image.Image, list[Box]]:
    """Decode to upright RGB; return the image and the boxes in its pixels.

    A JPEG is decoded at the smallest DCT scale (1/8, 1/4, 1/2, 1) at which no box has a side of fewer than `size`
    pixels: most of an image's time is spent on pixels that the resize would average away.

    Parameters
    ----------
    encoded
        From `open_image`; it is decoded once.
    boxes
        Parts of the upright image, in pixels.
    size
        See above; None: always at full scale.

    Raises
    ------
    BadImage
        If the data are damaged, or their pixels have no defined meaning.
    """
    image, orientation = encoded.image, encoded.orientation
    scale = 1
    if size is not None and image.format == "JPEG":
        side = min(min(right - left, bottom - top) for left, top, right, bottom in boxes)
        scale = next((s for s in _DCT_SCALES if side >= s * size), 1)
    with _Pillow():
        if scale > 1:
            # Pillow takes the largest scale that leaves at least this many pixels, which is `scale`.
            image.draft(None, (image.width // scale, image.height // scale))
        image.load()
        pixels = over_white(plain(image, encoded.depth))
        if orientation > 1:
            pixels = pixels.transpose(_TURNS[orientation])
    # A decoded pixel covers scale x scale pixels of the original. The last ones may reach beyond its edge, and an
    # axis that was turned round begins with these.
    x = pixels.width - encoded.width / scale if orientation in (2, 3, 6, 7) else 0
    y = pixels.height - encoded.height / scale if orientation in (3, 4, 7, 8) else 0
    return pixels, [
        (left / scale + x, top / scale + y, right / scale + x, bottom / scale + y)
        for left, top, right, bottom in boxes
    ]


def upright(encoded: Encoded) -> Image.Image:
    """Decode in full to one of the modes 1, L, LA, P, RGB, RGBA and I;16, upright.

    `over_white` of it is what `decode` returns.

    Raises
    ------
    BadImage
        As `decode` does.
    """
    with _Pillow():
        encoded.image.load()
        pixels = plain(encoded.image, encoded.depth)
        return pixels if encoded.orientation == 1 else pixels.transpose(_TURNS[encoded.orientation])


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 if there is none or it makes no sense."""
    exif = image.info.get("exif")
    # Most images have no EXIF, and most of the others no such entry: then nothing is parsed.
    turned = image.format in ("TIFF", "HEIF") or (image.format == "JXL" and not getattr(image, "jpeg", False))
    if turned or exif is None or not any(entry in exif for entry in _ORIENTATION_ENTRIES):
        return 1
    parsed = Image.Exif()
    try:
        parsed.load(exif)
        value = parsed.get(_ORIENTATION)
    except Exception:  # damaged metadata are no reason to lose the image
        return 1
    return value if value in _TURNS else 1


def crop(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Crop decoded pixels; Pillow compares a crop's size with its global limit, too."""
    with _Pillow(limit=None):
        return image.crop(box)


class _Pillow:
    """Pillow's global settings as they must be here, whatever others set them to; its exceptions as `BadImage`.

    Parameters
    ----------
    limit
        Of pixels; twice this is an error, before a plug-in allocates anything.
    """

    __slots__ = ("_before", "_limit")

    def __init__(self, limit: int | None = MAX_PIXELS // 2) -> None:
        self._limit = limit

    def __enter__(self) -> None:
        self._before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        Image.MAX_IMAGE_PIXELS = self._limit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self._before
        # Pillow's decoders let out whatever they stumble over in broken data.
        if isinstance(error, Exception) and not isinstance(error, BadImage | MemoryError):
            reason = " ".join(str(error).split()) or type(error).__name__
            if reason == "not identified by this driver":  # what Pillow says of a side of 0
                reason = "its header tells of no pixels"
            raise BadImage(reason) from error


def silence_pillow() -> None:
    """Keep what Pillow and libtiff say about odd files from standard error, in a process that only reads images."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # libtiff is a library that Pillow's is linked to, or is not there.
    pillow = ctypes.CDLL(Image.core.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(pillow, name):
            getattr(pillow, name)(None)
