"""Writes tar files whose bytes depend on their members alone.

Headers are USTAR with mode 0644, owner 0 and mtime 0. A name too long for USTAR (100 bytes, 255 with folders) gets
a PAX header: every tar reader of this century takes both, and no sample is lost.
"""

import hashlib
import tarfile
from typing import BinaryIO


class TarWriter:
    """Writes members to a binary file, hashing the output.

    Attributes
    ----------
    size
        Bytes written so far: the offset of the next header.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Write a member; return the offset of its data in the tar."""
        info = tarfile.TarInfo(name)  # its defaults are mode 0644, owner 0, mtime 0
        info.size = len(data)
        try:
            header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        except ValueError:
            header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        self._write(header)
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> None:
        """Write the end mark: two blocks of zeros, filled up to a whole record, as `tar` does."""
        end = 2 * tarfile.BLOCKSIZE
        self._write(bytes(end + -(self.size + end) % tarfile.RECORDSIZE))

    @property
    def sha256(self) -> str:
        """Hash of all that was written, in hexadecimal."""
        return self._hash.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
