"""What becomes of an image on its way into a shard: checked, and re-encoded only where that is asked for."""

import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from ccscale.errors import BadImage, InputError, nearest

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}  # extension to Pillow's name
KEPT = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
}  # an MPO is a JPEG with more JPEGs after it
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
COLOUR_MODES = frozenset({"CMYK", "YCbCr", "HSV", "RGBX", "RGBa", "PA"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How images are stored.

    Attributes
    ----------
    resize
        Length in pixels that the short side is reduced to; images are never enlarged. None: as they are.
    format
        ``"jpg"``, ``"png"`` or ``"webp"``; None: each image's own.
    quality
        1 to 100, of images that are encoded anew as JPEG or WebP. From 90 on, JPEG keeps full colour resolution.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    resize: int | None = None
    format: str | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < 1:
            raise InputError(f"resize is {self.resize}: give the short side's length, at least 1 pixel")
        if self.format is not None and self.format not in FORMATS:
            hint = nearest(self.format, FORMATS) or f"; the formats are {', '.join(FORMATS)}"
            raise InputError(f"there is no format {self.format!r}{hint}")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality}: it must be from 1 to 100")

    @property
    def keeps_bytes(self) -> bool:
        """Whether images in a format that shards hold are stored as they are."""
        return self.resize is None and self.format is None


def prepare(data: bytes, recipe: Recipe) -> tuple[bytes, str]:
    """Check an image by decoding it in full and return what to store: (bytes, extension).

    The format is told from the content, not from a file name. The bytes are kept unless the recipe or the format
    forbids it; what is encoded anew loses its metadata, and like a decoder that ignores EXIF it is not turned.

    Raises
    ------
    BadImage
        With the reason.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _store(data, image, recipe)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image in a format that Pillow reads") from None
    # Pillow's decoders raise almost anything on damaged files: OSError, SyntaxError, struct.error, IndexError, …
    except Exception as error:
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from None


def _store(data: bytes, image: Image.Image, recipe: Recipe) -> tuple[bytes, str]:
    own = KEPT.get(image.format or "")
    extension = recipe.format or own or "png"
    short = min(image.size)
    shrinks = recipe.resize is not None and recipe.resize < short
    if extension == own and not shrinks:
        return data, extension
    plain = _storable(image, extension)
    if shrinks:
        assert recipe.resize is not None
        width, height = (max(1, round(side * recipe.resize / short)) for side in image.size)
        smooth = {"1": "L", "P": "RGBA" if "transparency" in plain.info else "RGB"}.get(
            plain.mode, plain.mode
        )
        plain = plain.convert(smooth).resize((width, height), Image.Resampling.BICUBIC)
    return _encode(plain, extension, recipe.quality), extension


def _storable(image: Image.Image, extension: str) -> Image.Image:
    """Convert to a mode that the format holds, without a loss of depth."""
    mode = image.mode
    if extension == "png":
        if mode in PNG_MODES:
            return image
        if mode in COLOUR_MODES:
            return image.convert("RGB")
    elif mode in PNG_MODES - {"I;16"} or mode in COLOUR_MODES:
        if mode in {"1", "L", "LA"} and extension == "jpg":
            return image.convert("L")
        if extension == "webp" and (mode in {"LA", "RGBA"} or "transparency" in image.info):
            return image.convert("RGBA")
        return image.convert("RGB")
    raise BadImage(
        f"pixels of mode {mode} do not fit into {extension}: convert the image to 8 bits a channel"
    )


def _encode(image: Image.Image, extension: str, quality: int) -> bytes:
    encoded = io.BytesIO()
    # Bytes must follow from the pixels: nothing of the original's metadata goes along (transparency is pixels).
    image.info = {name: value for name, value in image.info.items() if name == "transparency"}
    if extension == "jpg":
        image.save(encoded, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
    elif extension == "webp":
        image.save(encoded, "WEBP", quality=quality, method=4)
    else:
        image.save(encoded, "PNG")
    return encoded.getvalue()
