"""Damaged and hostile manifests, indexes and images for `fuzz.py`: hypothesis strategies that yield bytes.

Some files are valid but for a few bytes; others are forged, with every value chosen and the checksums right, so
that what lies behind the first checks is reached too.
"""

import io
import json
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from forged import COLUMNS, TEXTS, index_columns, parquet
from fuzz_bytes import INT64, NUMBERS, mutated
from hypothesis import strategies as st
from PIL import Image

URLS = ["train-000001.tar", "../x.tar", "a/../../x.tar", "/etc/passwd", "file:///etc/passwd", "pipe://x"]
URLS += [
    "simplecache::file:///x",
    "https://h/a.tar",
    "https://h/%2e%2e/x",
    "%2e%2e/x.tar",
    "..\\x.tar",
    ".",
    "//host/x.tar",
]
URLS += ["C:/x.tar", "~/x.tar", "s3://b/k", "zip://a::file:///b", "FILE:/x", "a/./b.tar", "é.tar"]
URLS += ["", "pipe:touch x", "a\0b.tar", "a\nb.tar"]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([*NUMBERS, *URLS, None, True, 0.5, 1e300, [], {}, [[]], "0" * 64, "train", {"a": 1}]),
    st.text(max_size=9),
)


def manifest_content():
    shards = [
        {"url": f"train-{i:06d}.tar", "nsamples": 2, "filesize": 10240, "sha256": "0" * 64, "split": "train"}
        for i in range(2)
    ]
    section = {"version": 1, "splits": {"train": {"samples": 4, "shards": 2, "labelled": 2}}}
    section |= {"classes": ["a", "b"], "class_ids": ["0", "1"]}
    section |= {"made_by": {"kind": "x", "options": {"seed": 0}}}
    head = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": "x"}
    return head | {"shardlist": shards, "ccscale": section}


def _places(content, at=()):
    """Yield the path of every value in a JSON document."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for name, value in items:
        yield (*at, name)
        yield from _places(value, (*at, name))


@st.composite
def edited_manifest(draw):
    """Return a manifest with values replaced, removed or doubled."""
    content = manifest_content()
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(_places(content))))
        parent = content
        for name in path:
            parent = parent[name]
        match draw(st.sampled_from(["replace", "replace", "drop", "double"])):
            case "replace":
                parent[last] = draw(VALUES)
            case "drop":
                del parent[last]
            case "double" if isinstance(parent, list):
                parent.append(parent[last])
    return json.dumps(content, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@cache
def manifest_seeds():
    text = json.dumps(manifest_content()).encode()
    return [
        text,
        text.replace(b"10240", b"1e400"),
        b"[" * 3000,
        b'{"wids_version":1' * 500,
        b"\xef\xbb\xbf" + text,
    ]


def manifests():
    return st.one_of(edited_manifest(), edited_manifest(), mutated(manifest_seeds), st.binary(max_size=200))


@st.composite
def forged_index(draw):
    """Return an index whose columns hold anything."""
    count = draw(st.sampled_from([2, 2, 2, 1, 0]))
    integers = st.lists(st.sampled_from([*INT64, 512, 2048, 800, None]), min_size=count, max_size=count)
    texts = st.lists(st.sampled_from(["a", "b", "", "../x", "a\0", None]), min_size=count, max_size=count)
    columns = {name: draw(texts if name in TEXTS else integers) for name in COLUMNS}
    columns["label"] = [value and value % 2**31 for value in columns["label"]]
    arrays = {}
    for name, values in columns.items():
        kinds = (
            [pa.string(), pa.large_string(), pa.binary()]
            if name in TEXTS
            else [pa.int64(), pa.float64(), pa.string()]
        )
        try:
            arrays[name] = pa.array(values, pa.int64() if isinstance((values or [0])[0], int) else None).cast(
                draw(st.sampled_from(kinds))
            )
        except pa.ArrowException:
            arrays[name] = pa.array(values)
    if "key" in arrays and draw(st.integers(0, 5)) == 0:
        arrays["key"] = pa.array([b"\xff\xfe", b"\x80"][:count] or [], pa.binary())
    for name in draw(st.lists(st.sampled_from(COLUMNS), max_size=1)):
        if draw(st.integers(0, 3)) == 0:
            del arrays[name]
    return parquet(arrays)


@cache
def index_seeds():
    columns = index_columns()
    return [
        parquet(columns),
        parquet(columns, compression="none", use_dictionary=False),
        parquet(columns, compression="zstd"),
    ]


def indexes():
    return st.one_of(forged_index(), mutated(index_seeds), mutated(index_seeds), st.binary(max_size=200))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def image_seeds():
    small = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    rgba = Image.fromarray(small).resize((24, 18), Image.Resampling.BICUBIC)
    rgb, palette = rgba.convert("RGB"), rgba.convert("RGB").quantize(9)
    deep = Image.fromarray(np.arange(432, dtype=np.uint16).reshape(18, 24) * 151)
    tags = Image.Exif()
    tags[0x0112], tags[271] = 6, "camera"
    more = {"save_all": True, "append_images": [rgb.rotate(180)]}
    files = [encoded(rgb, kind, exif=tags) for kind in ("JPEG", "PNG", "WEBP")]
    files += [
        encoded(rgb, "JPEG", progressive=True),
        encoded(rgba.convert("L"), "JPEG"),
        encoded(rgba.convert("CMYK"), "JPEG"),
    ]
    files += [encoded(rgba, kind) for kind in ("PNG", "TIFF", "WEBP")]
    files += [
        encoded(palette, "PNG", transparency=bytes([0, 99, 255])),
        encoded(palette, "GIF", transparency=1),
        encoded(palette, "BMP"),
    ]
    files += [
        encoded(deep, "PNG"),
        encoded(deep, "TIFF"),
        encoded(rgb, "BMP"),
        encoded(rgb, "PPM"),
        encoded(rgb.convert("1"), "PPM"),
    ]
    files += [encoded(rgb, kind, **more) for kind in ("PNG", "GIF", "TIFF", "MPO")] + [
        encoded(rgb, "WEBP", lossless=True, **more)
    ]
    files += [
        encoded(rgb, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
    ]
    files += [
        encoded(rgb.convert("1"), "TIFF", compression="group4"),
        b"P3 2 1 255\n1 2 3 4 5 6\n",
        b"P1 3 1\n1 0 1\n",
    ]
    return files


def with_checksums(data):
    """Return a PNG with the checksums that its chunks should have; other data as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    repaired, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        body = data[at + 4 : at + 8 + length]
        repaired += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(repaired + data[at:])


def images():
    damaged = mutated(image_seeds)
    starts = st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 ", b"GIF89a", b"BM", b"II*\0", b"P6 "]
    )
    noise = st.tuples(starts, st.binary(max_size=200)).map(b"".join)
    return st.one_of(damaged, damaged, damaged.map(with_checksums), noise)
