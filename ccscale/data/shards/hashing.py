"""A file that is read once, from its beginning to its end, and hashed on the way.

A tar's reader goes forward but for small steps back; the blocks behind it are kept for these, so that a shard
behind a URL crosses the network once for its hash and its contents together.
"""

import hashlib
import io
import os
from collections import OrderedDict
from typing import BinaryIO

from ccscale.pool import Tick

BLOCK = 2**20
KEPT_BLOCKS = 16


class HashingReader(io.RawIOBase):
    """A seekable view of a binary file that hashes each of its blocks the first time it is read.

    Parameters
    ----------
    file
        At its beginning.
    tick
        Called once for each block of `BLOCK` bytes, the last of which may be shorter.
    """

    def __init__(self, file: BinaryIO, tick: Tick | None = None) -> None:
        self._file, self._tick = file, tick
        self._hash = hashlib.sha256()
        self._size = 0  # bytes hashed so far
        self._ended = False
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._place = 0

    def finish(self) -> tuple[str, int]:
        """Read the rest of the file; return its SHA-256 in hexadecimal and its size in bytes."""
        while not self._ended:
            self._read_on()
        return self._hash.hexdigest(), self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}
        self._place = offset + (base[whence] if whence in base else self.finish()[1])
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        filled = 0
        while filled < len(buffer):
            number, start = divmod(self._place, BLOCK)
            part = self._block(number)[start : start + len(buffer) - filled]
            if not part:
                break
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            self._place += len(part)
        return filled

    def _block(self, number: int) -> bytes:
        while not self._ended and number * BLOCK >= self._size:
            self._read_on()
        if number not in self._blocks and number * BLOCK < self._size:  # a long way back
            self._file.seek(number * BLOCK)
            self._keep(number, _full_read(self._file))
            self._file.seek(self._size)
        return self._blocks.get(number, b"")

    def _read_on(self) -> None:
        data = _full_read(self._file)
        self._ended = len(data) < BLOCK
        if not data:
            return
        self._hash.update(data)
        self._keep(self._size // BLOCK, data)
        self._size += len(data)
        if self._tick is not None:
            self._tick()

    def _keep(self, number: int, data: bytes) -> None:
        self._blocks[number] = data
        if len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)


def _full_read(file: BinaryIO) -> bytes:
    """Read a block; less than that only at the file's end."""
    data = file.read(BLOCK)
    while 0 < len(data) < BLOCK:
        more = file.read(BLOCK - len(data))
        if not more:
            break
        data += more
    return data


def hash_file(path: str | os.PathLike[str], tick: Tick | None = None) -> tuple[str, int]:
    """Return a local file's SHA-256 in hexadecimal and its size in bytes; `tick` counts its blocks."""
    with open(path, "rb") as file:
        return HashingReader(file, tick).finish()


def blocks_of(size: int) -> int:
    """Return how often reading a file of `size` bytes ticks."""
    return -(-size // BLOCK)
