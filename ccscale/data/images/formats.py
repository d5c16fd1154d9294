"""Formats of images, told by the files' first bytes, and Pillow's reader of each.

Not by Image.open: it depends on a global limit of Pillow's, and tells less of what is wrong. HEIC and JPEG XL need
packages of their own, which `pip install 'ccscale[heif]'` and `'ccscale[jxl]'` bring; AVIF is in Pillow from 11.3
on.
"""

import struct
from typing import cast

from PIL import ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ccscale.data.images.extras import needed
from ccscale.errors import BadImage

Reader = type[ImageFile.ImageFile]

_READERS: tuple[tuple[bytes, Reader], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),  # of an MPO, it is the first image
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"RIFF", WebPImageFile),
    (b"BM", BmpImageFile),
    (b"GIF8", GifImageFile),
    *((magic, TiffImageFile) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((b"P%d" % kind, PpmImageFile) for kind in range(1, 7)),
)
_FORMATS = "JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF, PPM, HEIC, JPEG XL, DICOM"
_HEIC_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_JXL_STREAM, _JXL_BOX = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
# JPEG XL's header has a width by its ratio to the height, instead of a number.
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def reader_of(data: bytes) -> Reader:
    """Return Pillow's reader of a file.

    Raises
    ------
    BadImage
        If it is no image in a known format, or in one that needs a package that is missing.
    """
    for magic, reader in _READERS:
        if data.startswith(magic):
            return reader
    brands = _brands(data)
    if brands & {b"avif", b"avis"}:
        if not features.check("avif"):  # type: ignore[no-untyped-call, unused-ignore]
            raise BadImage("it is AVIF, which this Pillow does not read: run `pip install 'pillow>=11.3'`")
        return AvifImageFile
    if brands & _HEIC_BRANDS:
        return cast(Reader, needed("pillow_heif.as_plugin", "HEIC", "heif").HeifImageFile)
    if data.startswith((_JXL_STREAM, _JXL_BOX)):
        return cast(Reader, needed("pillow_jxl.JpegXLImagePlugin", "JPEG XL", "jxl").JXLImageFile)
    raise BadImage(f"it is not an image in a known format ({_FORMATS})")


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return the (width, height) that a JPEG XL's header claims, whose reader decodes before it tells; else None.

    Raises
    ------
    BadImage
        If it has no header.
    """
    if data.startswith(_JXL_STREAM):
        return _jxl_size(data[2:32])
    if data.startswith(_JXL_BOX):
        return _jxl_size(_codestream(data)[2:32])
    return None


def _brands(data: bytes) -> set[bytes]:
    """Return the kinds of file that an ISO base media file says it is, which are all of this container."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), 256)
    return {data[start : start + 4] for start in (8, *range(16, end, 4))}


def _codestream(data: bytes) -> bytes:
    """Return the begin of the first codestream in the boxes of a JPEG XL file."""
    start = 0
    while start + 16 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        begin = start + 8
        if size == 1:
            size, begin = int.from_bytes(data[begin : begin + 8]), begin + 8
        if kind in (b"jxlc", b"jxlp"):
            begin += 4 if kind == b"jxlp" else 0  # a part's number
            return data[begin : begin + 64]
        if size < 8:
            break
        start += size
    raise BadImage("it is a JPEG XL file without an image")


def _jxl_size(header: bytes) -> tuple[int, int]:
    bits = int.from_bytes(header, "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def length(small: int) -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = length(small)
    ratio = take(3)
    if ratio == 0:
        return length(small), height
    across, down = _JXL_RATIOS[ratio - 1]
    return height * across // down, height
