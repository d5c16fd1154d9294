"""Where the bytes of a source's image are: a content is small, is sent to a worker, and is read there.

    Bytes   in memory
    File    all of a local file
    Part    a stretch of a local file, as in a tar or a binary of many images
    Pixels  either of Bytes and Part, if these are bare pixels: encoded as PNG when they are read

Only regular files are read (a FIFO would be waited for, a device has no end), and none of more than `MOST_BYTES`.

A new kind of place is a new class (`remote/downloads.py` has the one for the web and for object stores).
"""

import errno
import io
import os
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.regular import regular

MOST_BYTES = 2**30  # of an image: the largest that is decoded, uncompressed


class Content(Protocol):
    """An encoded image that can be read."""

    @property
    def path(self) -> str | None:
        """The local file that the image is read from, None if there is none."""

    @property
    def size(self) -> int:
        """Number of bytes, as far as it is known without reading them; raises OSError."""

    def read(self) -> bytes:
        """Return an image file's bytes; raises OSError, whose ``strerror`` says why."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """An encoded image in memory."""

    data: bytes

    @property
    def path(self) -> None:
        return None

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class File:
    """A local file, by its absolute path.

    Attributes
    ----------
    path
        Of the file.
    listed
        Whether its folder was there when the source was listed: where it is not there any more, the source is gone.
    """

    path: str
    listed: bool = True

    @property
    def size(self) -> int:
        return os.stat(self.path).st_size

    def read(self) -> bytes:
        with open(self.path, "rb", opener=regular) as file:
            claimed = os.fstat(file.fileno()).st_size
            data = file.read(MOST_BYTES + 1) if claimed <= MOST_BYTES else b""
        if max(claimed, len(data)) > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it exceeds the limit of {MOST_BYTES:,} bytes")
        return data


@dataclass(frozen=True, slots=True)
class FilePart:
    """A stretch of an uncompressed local file: `size` bytes from byte `offset` on."""

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            data = b""
            while len(data) < self.size:  # one call of the system reads 2 GiB at most
                more = file.read(self.size - len(data))
                if not more:
                    raise OSError(errno.EIO, f"the file ends before byte {self.offset + self.size}")
                data += more
            return data


class Layout(NamedTuple):
    """How an image's pixels are stored, one byte a value.

    Attributes
    ----------
    shape
        Of the values in their order.
    axes
        The axes of `shape` that are rows, columns and, for colour, channels.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RawPixels:
    """Bare pixels, grey or RGB, which become a PNG when they are read; `size` is theirs, the PNG's is not known."""

    raw: Bytes | FilePart
    layout: Layout

    @property
    def path(self) -> str | None:
        return self.raw.path

    @property
    def size(self) -> int:
        return self.raw.size

    def read(self) -> bytes:
        values = np.frombuffer(self.raw.read(), np.uint8).reshape(self.layout.shape)
        return encode_png(values.transpose(self.layout.axes))


def encode_png(pixels: npt.NDArray[Any]) -> bytes:
    """Return uint8 pixels, (height, width) grey or (height, width, 3) RGB, as a PNG without metadata."""
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG")
    return encoded.getvalue()
