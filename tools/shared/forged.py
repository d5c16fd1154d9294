"""Tars and indexes made by hand, with any value in any place and the checksums right."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq

FIELDS = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12)}
FIELDS |= {
    "mtime": (136, 12),
    "type": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8),
    "devmajor": (329, 8),
}
FIELDS |= {"prefix": (345, 155), "sparse": (386, 97), "realsize": (483, 12)}


def number_field(number, width):
    """Return a number as tars have it: octal, or in base 256 where that does not do."""
    if 0 <= number < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, number)
    value = (number % 2 ** (8 * width - 1)).to_bytes(width, "big")
    return bytes([value[0] | (0x80 if number >= 0 else 0xFF)]) + value[1:]


def tar_header(fields, checksum=True):
    """Return a header block with these raw fields; the others are a plain file's."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    for name, value in fields.items():
        start, width = FIELDS[name]
        header[start : start + width] = value[:width].ljust(width, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) if checksum else 4242)
    return bytes(header)


COLUMNS = ["key", "ext", "offset", "size", "label", "origin"]
TEXTS = ("key", "ext", "origin")


def parquet(columns, **options):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def index_columns(offsets=(512, 2048), sizes=(800, 3)):
    numbers = [pa.array(values, pa.int64()) for values in (offsets, sizes)]
    labels, origins = pa.array([3, None], pa.int32()), ["a.jpg", None]
    return dict(zip(COLUMNS, [["a", "b"], ["jpg", "png"], *numbers, labels, origins], strict=True))
