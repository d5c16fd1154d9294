"""Odd images, made here: each with its upright RGB pixels, or with what is said of it.

`ODD` is name to (file, pixels, tolerance); `BAD` is name to (file, part of the reason).
"""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image, features

ORIENTATION = 0x0112


def encode(image, kind="PNG", **options):
    """Return the file of a Pillow image, or of an array."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name, data=b""):
    """Return a PNG's chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels, depth, colour, *before, size=None, after=()):
    """Return a PNG of raw samples; `colour` is the format's number, `size` what the header claims."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, -1)
    if depth == 16:
        rows = samples.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour, 0, 0, 0)
    chunks = [
        chunk(b"IHDR", header),
        *before,
        chunk(b"IDAT", zlib.compress(scanlines)),
        *after,
        chunk(b"IEND"),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bits_of(*fields):
    """Return (count, value) of bits, the lowest first."""
    value = place = 0
    for count, field in fields:
        value, place = value | field << place, place + count
    return value.to_bytes(place // 8 + 1, "little")


def stored(upright, orientation):
    """Return the pixels as a camera stores them for an orientation, by the standard's table of rows and columns."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),  # the first row is the right side
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),  # the first row is the left side, from the bottom
    }[orientation].copy()


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def smooth(width=40, height=30, channels=3, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BICUBIC))


def over_white(rgb, alpha):
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def from_cmyk(cmyk):
    """Return the RGB of 8-bit inks, as an ideal press has it."""
    ink = 1 - cmyk / 255
    return np.rint(255 * ink[..., :3] * ink[..., 3:]).astype(np.uint8)


def ycck(cmyk):
    """Return a JPEG with Adobe's transform 2: (Y, Cb, Cr) of 255 - ink's inverse, and K."""
    inverted = Image.merge(
        "RGB", Image.fromarray(cmyk, "CMYK").split()[:3]
    )  # what Adobe calls CMY is 255 - ink
    planes = [*inverted.convert("YCbCr").split(), Image.fromarray(255 - cmyk[..., 3])]
    raw = Image.merge("CMYK", [plane.point(lambda v: 255 - v) for plane in planes])
    data = bytearray(encode(raw, "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    return bytes(data)


def _odd():
    rgb, other = smooth(), smooth(seed=1)
    alpha = np.linspace(0, 255, 40).astype(np.uint8)[None].repeat(30, 0)
    alpha[:, 30:] = 255
    grey = rgb[..., 0].copy()
    grey_rgb = grey[..., None].repeat(3, 2)
    deep = np.linspace(0, 65535, 1200).round().astype(np.uint16).reshape(30, 40)
    deep_rgb = np.rint(deep / 257).astype(np.uint8)[..., None].repeat(3, 2)
    wide = np.stack([deep, deep[::-1], deep[:, ::-1]], 2)
    wide_rgb = (wide >> 8).astype(np.uint8)
    bits = grey > 127
    black = np.where(bits[..., None], 255, 0).astype(np.uint8).repeat(3, 2)
    cmyk = smooth(channels=4)
    indexed = Image.fromarray(rgb).quantize(12)
    palette = np.array(indexed.getpalette()[:36], np.uint8).reshape(12, 3)
    indices = np.asarray(indexed)
    entries = palette[indices]
    shades = np.array([0, 128, *[255] * 10], np.uint8)
    two = Image.fromarray(rgb), Image.fromarray(other)
    yield "plain", encode(rgb), rgb, 0
    for o in range(2, 9):
        yield f"EXIF {o} PNG", encode(stored(rgb, o), exif=exif(o)), rgb, 0
    for o in (3, 6):
        jpeg = encode(stored(rgb, o), "JPEG", exif=exif(o), quality=95, subsampling=0)
        yield f"EXIF {o} JPEG", jpeg, rgb, 12
        yield f"EXIF {o} WebP", encode(stored(rgb, o), "WEBP", exif=exif(o), lossless=True), rgb, 0
        yield f"EXIF {o} TIFF", encode(stored(rgb, o), "TIFF", tiffinfo={ORIENTATION: o}), rgb, 0
    if features.check("avif"):
        yield "AVIF", encode(rgb, "AVIF", quality=100, subsampling="4:4:4"), rgb, 16
        yield (
            "EXIF 6 AVIF",
            encode(stored(rgb, 6), "AVIF", quality=100, subsampling="4:4:4", exif=exif(6)),
            rgb,
            16,
        )
        clear = Image.fromarray(np.dstack([rgb, alpha]))
        yield (
            "AVIF with alphas",
            encode(clear, "AVIF", quality=100, subsampling="4:4:4"),
            over_white(rgb, alpha),
            16,
        )
    late = chunk(b"eXIf", exif(8).tobytes()[6:])
    yield "EXIF after the pixels", png(stored(rgb, 8), 8, 2, after=[late]), rgb, 0
    yield "EXIF 6 big-endian", _big_endian(stored(rgb, 6)), rgb, 12
    yield "EXIF 9 means nothing", encode(rgb, exif=exif(9)), rgb, 0
    yield "EXIF damaged", png(rgb, 8, 2, chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\x12\x01\x03\0")), rgb, 0
    yield "EXIF 6 on grey", encode(stored(grey, 6), "JPEG", exif=exif(6), quality=95), grey_rgb, 12
    yield (
        "EXIF 8 on a palette",
        png(stored(indices, 8), 8, 3, chunk(b"PLTE", palette.tobytes()), late),
        entries,
        0,
    )
    yield "CMYK JPEG", encode(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100), from_cmyk(cmyk), 6
    yield "YCCK JPEG", ycck(cmyk), from_cmyk(cmyk), 6
    yield "CMYK TIFF", encode(Image.fromarray(cmyk, "CMYK"), "TIFF"), from_cmyk(cmyk), 2
    yield "grey JPEG", encode(grey, "JPEG", quality=95), grey_rgb, 6
    yield "grey PNG", encode(grey), grey_rgb, 0
    yield "1 bit PNG", encode(bits), black, 0
    yield "1 bit TIFF", encode(Image.fromarray(bits), "TIFF", compression="group4"), black, 0
    yield "palette PNG", encode(indexed), entries, 0
    yield "palette GIF", encode(indexed, "GIF"), entries, 0
    yield (
        "palette with alphas",
        encode(indexed, transparency=shades.tobytes()),
        over_white(entries, shades[indices]),
        0,
    )
    hidden = np.where(indices[..., None] == 3, 255, entries).astype(np.uint8)
    yield "palette with a hole", encode(indexed, transparency=3), hidden, 0
    yield "GIF with a hole", encode(indexed, "GIF", transparency=3), hidden, 0
    yield "LA PNG", encode(np.dstack([grey, alpha])), over_white(grey_rgb, alpha), 1
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        yield f"RGBA {kind}", encode(np.dstack([rgb, alpha]), kind, **options), over_white(rgb, alpha), 1
    clear = np.where((rgb == rgb[3, 4]).all(2, keepdims=True), 255, rgb).astype(np.uint8)
    yield "RGB PNG with a hole", encode(rgb, transparency=tuple(map(int, rgb[3, 4]))), clear, 0
    holed = np.where(grey_rgb == grey[3, 4], 255, grey_rgb).astype(np.uint8)
    yield "grey PNG with a hole", encode(grey, transparency=int(grey[3, 4])), holed, 0
    four = grey >> 4
    four_rgb = np.where(four == 5, 255, four * 17).astype(np.uint8)[..., None].repeat(3, 2)
    yield "4 bit PNG with a hole", png(four, 4, 0, chunk(b"tRNS", b"\0\5")), four_rgb, 0
    yield "16 bit PNG", encode(deep), deep_rgb, 0
    hole = chunk(b"tRNS", struct.pack(">H", deep[3, 4]))
    holed = np.where((deep == deep[3, 4])[..., None], 255, deep_rgb).astype(np.uint8)
    yield "16 bit PNG with a hole", png(deep, 16, 0, hole), holed, 0
    yield "16 bit TIFF", encode(deep, "TIFF"), deep_rgb, 0
    yield "16 bit big-endian TIFF", _tiff_16(deep, 1, ">"), deep_rgb, 0
    yield "16 bit TIFF, 0 is white", _tiff_16(65535 - deep, 0, "<"), deep_rgb, 0
    yield "16 bit PGM", b"P5 40 30 65535\n" + deep.astype(">u2").tobytes(), deep_rgb, 0
    yield "16 bit RGB PNG", png(wide, 16, 2), wide_rgb, 0
    hole = chunk(b"tRNS", wide[3, 4].astype(">u2").tobytes())
    clear = np.where((wide_rgb == wide_rgb[3, 4]).all(2, keepdims=True), 255, wide_rgb).astype(np.uint8)
    yield "16 bit RGB PNG with a hole", png(wide, 16, 2, hole), clear, 0
    deep_alpha = alpha.astype(np.uint16) * 257
    yield "16 bit RGBA PNG", png(np.dstack([wide, deep_alpha]), 16, 6), over_white(wide_rgb, alpha), 1
    shaded = over_white((deep >> 8).astype(np.uint8)[..., None].repeat(3, 2), alpha)
    yield "16 bit LA PNG", png(np.dstack([deep, deep_alpha]), 16, 4), shaded, 1
    frames = [image.quantize(200) for image in two]
    first = np.asarray(frames[0].convert("RGB"))
    yield "animated GIF", encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), first, 0
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        yield (
            f"animated {kind}",
            encode(two[0], kind, save_all=True, append_images=two[1:], **options),
            rgb,
            0,
        )
    mpo = encode(two[0], "MPO", save_all=True, append_images=two[1:], quality=95, subsampling=0)
    yield "MPO", mpo, rgb, 12
    for width, height in ((1, 1), (1, 300), (300, 1), (1, 10_000), (10_000, 1)):
        line = np.broadcast_to(rgb[0, 0], (height, width, 3)).copy()
        yield f"{width}x{height} PNG", encode(line), line, 0
        yield f"{width}x{height} JPEG", encode(line, "JPEG", quality=95), line, 4
    yield "PPM", encode(rgb, "PPM"), rgb, 0
    yield "BMP", encode(rgb, "BMP"), rgb, 0


def _bad():
    rgb = smooth(300, 200)
    jpeg = encode(rgb, "JPEG", quality=90)
    files = {kind: encode(rgb, kind) for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")}
    files |= {"JPEG": jpeg, "progressive JPEG": encode(rgb, "JPEG", progressive=True)}
    files["LZW TIFF"] = encode(rgb, "TIFF", compression="tiff_lzw")
    for name, data in files.items():
        yield f"{name} cut in half", data[: len(data) // 2], ""
        yield f"{name} cut after 30 bytes", data[:30], ""
    yield "JPEG in a TIFF, its tables missing", encode(rgb, "TIFF", compression="jpeg")[:-60], "decoder error"
    yield "last bytes of a JPEG missing", jpeg[:-40], "truncated"
    yield "float TIFF", encode(Image.fromarray(np.full((5, 5), 0.5, np.float32)), "TIFF"), "floating-point"
    yield "32 bit TIFF", encode(Image.fromarray(np.full((5, 5), 7, np.int32)), "TIFF"), "32-bit integers"
    square = np.zeros((4, 4, 3), np.uint8)
    yield (
        "vast PNG",
        png(square, 8, 2, size=(60_000, 50_000)),
        "60000 x 50000 pixels, above the limit of 134,217,728",
    )
    frame = jpeg.index(b"\xff\xc0") + 5
    vast = jpeg[:frame] + struct.pack(">HH", 65_000, 64_000) + jpeg[frame + 4 :]
    yield "vast JPEG", vast, "64000 x 65000 pixels, above the limit of 134,217,728"
    bmp = bytearray(encode(square, "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    yield "vast BMP", bytes(bmp), "100000 x 100000 pixels"
    gif = bytearray(encode(Image.fromarray(square).quantize(4), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "vast GIF", bytes(gif), "pixels"
    yield "vast TIFF", _retag(encode(square, "TIFF"), {256: 100_000, 257: 90_000}), "100000 x 90000 pixels"
    yield "vast PPM", b"P6 70000 70000 255\n" + bytes(12), "70000 x 70000 pixels"
    if features.check("avif"):
        avif = bytearray(encode(square, "AVIF"))
        place = avif.index(b"ispe") + 8
        avif[place : place + 8] = struct.pack(">II", 16_000, 16_000)
        yield "vast AVIF", bytes(avif), ""
        yield "AVIF cut in half", encode(rgb, "AVIF")[:300], ""
    yield (
        "vast JPEG XL",
        b"\xff\x0a" + bits_of((1, 0), (2, 3), (30, 69_999), (3, 1)) + bytes(40),
        "70000 x 70000",
    )
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s8s", 16, b"ftyp", b"jxl \0\0\0\0")
    yield "JPEG XL without an image", boxes + struct.pack(">I4s", 8, b"Exif") + bytes(20), "without an image"
    yield "PNG without pixels", png(square, 8, 2, size=(0, 4)), "no pixels"
    yield "JPEG without pixels", jpeg[:frame] + bytes(4) + jpeg[frame + 4 :], "no pixels"
    yield "PPM without pixels", b"P6 0 4 255\n", "no pixels"
    yield "text bomb", png(rgb, 8, 2, chunk(b"zTXt", b"k\0\0" + _bomb())), "too large"
    yield "ICC bomb", png(rgb, 8, 2, chunk(b"iCCP", b"x\0\0" + _bomb())), "too large"
    yield "many text bombs", png(rgb, 8, 2, *[chunk(b"zTXt", b"k\0\0" + _bomb(2**20 - 9))] * 100), "memory"
    yield "TIFF with a vast tag", _retag(encode(square, "TIFF"), {258: (2**31 - 1, 8)}), ""
    yield "empty", b"", "it has no bytes"
    yield "text", b"no image at all", "known format"
    yield "EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "known format"
    yield "HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64), "known format"
    yield "JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "known format"
    yield "float PFM", b"Pf\n4 4\n-1.0\n" + bytes(64), "known format"
    yield "zeros", bytes(5000), "known format"
    yield "JPEG's first bytes and zeros", jpeg[:20] + bytes(5000), ""


@cache
def _bomb(size=200 * 2**20):
    """Return zeros, compressed."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(2**20, size - done))) for done in range(0, size, 2**20)]
    return b"".join(parts) + packer.flush()


def _big_endian(pixels):
    tags = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, ORIENTATION, 3, 1, 6, 0, 0)
    return encode(pixels, "JPEG", exif=tags, quality=95, subsampling=0)


def _tiff_16(pixels, photometric, order):
    """Return a TIFF of one strip in the byte order "<" or ">"."""
    height, width = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(
        struct.pack(f"{order}HHI{'HH' if kind == 3 else 'I'}", tag, kind, 1, value, *[0] * (kind == 3))
        for tag, kind, value in tags
    )
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(data))
    return start + data + directory + bytes(4)


def _retag(tiff, changes):
    """Return a little-endian TIFF with other values, or other (counts, values), in its directory."""
    data = bytearray(tiff)
    (start,) = struct.unpack_from("<I", data, 4)
    for i in range(struct.unpack_from("<H", data, start)[0]):
        place = start + 2 + 12 * i
        tag = struct.unpack_from("<H", data, place)[0]
        if tag in changes:
            count, value = changes[tag] if isinstance(changes[tag], tuple) else (1, changes[tag])
            struct.pack_into("<HHII", data, place, tag, 4, count, value)
    return bytes(data)


ODD = {name: (data, pixels, tolerance) for name, data, pixels, tolerance in _odd()}
BAD = {name: (data, reason) for name, data, reason in _bad()}
