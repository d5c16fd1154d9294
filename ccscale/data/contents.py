"""Where the bytes of a source's image are: a content is small, is sent to a worker, and is read there.

`Bytes` are in memory, a `File` is all of a local file. A new kind of place is a new class here.
"""

import os
from dataclasses import dataclass
from typing import Protocol


class Content(Protocol):
    """An encoded image that can be read."""

    @property
    def path(self) -> str | None:
        """The local file that the image is read from, None where there is none."""

    @property
    def size(self) -> int:
        """Number of bytes, as far as it is known without reading them; raises OSError."""

    def read(self) -> bytes:
        """Return an image file's bytes; raises OSError."""


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
    """A local file, by its absolute path."""

    path: str

    @property
    def size(self) -> int:
        return os.stat(self.path).st_size

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()
