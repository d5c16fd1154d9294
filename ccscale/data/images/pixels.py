"""Pixels of whatever mode an image was stored in, to a few plain modes, and from these to RGB of 8 bits.

The plain modes are Pillow's 1, L, LA, P, RGB, RGBA and I;16. What becomes of each kind is told in `decode.py`.
"""

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ccscale.errors import BadImage


def plain(image: Image.Image, depth: int) -> Image.Image:
    """Return a loaded image in one of the plain modes; where it is transparent, in LA, P or RGBA.

    Parameters
    ----------
    image
        As Pillow loaded it.
    depth
        Bits a channel of a PNG's file; 8 for other formats.

    Raises
    ------
    BadImage
        If the pixels have no defined meaning.
    """
    mode, transparent = image.mode, image.info.get("transparency")
    if transparent is None:
        if mode in ("RGB", "L", "RGBA", "P", "LA", "1"):
            return image
    elif mode == "P":
        return image
    # Older releases of Pillow have 16-bit PNGs in mode I, as it has 16-bit PPMs; elsewhere I means 32 bits.
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        return _grey_16(image, transparent)
    if mode in ("F", "I"):
        kind = "floating-point numbers" if mode == "F" else "32-bit integers"
        raise BadImage(
            f"its pixels are {kind}, a type without a fixed range: convert it to 8 or 16 bits, or keep "
            "the values as stored (`ccscale shards make --channels 1`)"
        )
    # Pillow has a PNG's transparent colour at the file's depth and the pixels at 8 bits.
    if transparent is not None and (depth in (2, 4) or (depth == 16 and mode == "RGB")):
        image = image.copy()
        image.info["transparency"] = (
            tuple(value >> 8 for value in transparent)
            if isinstance(transparent, tuple)
            else transparent * 255 // (2**depth - 1)
        )
    return image.convert("RGBA" if transparent is not None or mode in ("La", "PA", "RGBa") else "RGB")


def over_white(image: Image.Image) -> Image.Image:
    """Convert an image of one of the plain modes to RGB, transparency laid over white."""
    if image.mode == "RGB":
        return image
    if image.mode == "I;16":
        return eight_bits(image).convert("RGB")
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def eight_bits(grey: Image.Image) -> Image.Image:
    """Convert a 16-bit grey image to mode L: round(v / 257)."""
    values = np.asarray(grey).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _grey_16(image: Image.Image, transparent: int | None) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    # Photometric interpretation 0: the least value is white, which Pillow passes over.
    if isinstance(image, TiffImageFile) and image.tag_v2.get(262) == 0:
        values = np.uint16(65535) - values
    grey = Image.fromarray(values)
    if transparent is None:
        return grey
    return Image.merge(
        "LA", (eight_bits(grey), Image.fromarray((values != transparent).astype(np.uint8) * 255))
    )
