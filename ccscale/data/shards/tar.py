"""Writes tar files whose bytes depend on their members alone, and finds the tars in a folder.

Headers are USTAR with mode 0644, owner 0 and mtime 0. A name too long for USTAR (100 bytes, 255 with folders) gets
a PAX header: every tar reader of this century takes both, and no sample is lost.
"""

import hashlib
import os
import shlex
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from ccscale.data.shards.manifest import NAME
from ccscale.errors import InputError


class TarWriter:
    """Writes members one after another to a binary file, hashing what it writes.

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


# What unpacks tars by their endings.
COMPRESSED = {
    **dict.fromkeys((".tar.gz", ".tgz"), "gunzip"),
    **dict.fromkeys((".tar.zst", ".tzst"), "unzstd --rm"),
    **dict.fromkeys((".tar.xz", ".txz"), "unxz"),
    **dict.fromkeys((".tar.bz2", ".tbz", ".tbz2"), "bunzip2"),
    ".tar.lz4": "unlz4 --rm",
    ".tar.Z": "uncompress",
}


def tars_below(folder: str) -> list[str]:
    """Return the tars in a local folder and its sub-folders, relative with '/', sorted.

    Links are followed. Hidden folders and folders that are data sets of their own (with a ``dataset.json``) are
    passed over.

    Raises
    ------
    InputError
        If a link leads back to a folder that holds it.
    """
    return sorted(name for name in _files_below(folder) if name.endswith(".tar"))


def refuse_compressed(folder: str) -> None:
    """Raise InputError that names compressed tars in a folder: nothing in them can be found by a seek."""
    found = [
        (name, program)
        for name in sorted(_files_below(folder))
        for ending, program in COMPRESSED.items()
        if name.endswith(ending)
    ]
    if found:
        name, program = found[0]
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise InputError(
            f"{os.path.join(folder, name)}{more}: it is compressed, so that nothing in it can be found by a seek; "
            f"run `{program} {shlex.quote(name)}`, or take it out of the folder"
        )


def _files_below(folder: str, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of all files that are not hidden, relative with '/'; see `tars_below`."""
    place = os.path.realpath(os.path.join(folder, prefix))
    if place in above:
        raise InputError(
            f"{os.path.join(folder, prefix)} links back to a folder that holds it: remove the link"
        )
    try:
        with os.scandir(place) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:  # it has gone since its name was read
        return
    except OSError as error:
        raise InputError(
            f"{os.path.join(folder, prefix)} cannot be read ({error.strerror}): check your rights to it"
        ) from None
    if prefix and any(entry.name == NAME for entry in found):
        return
    for entry in found:
        if _is_folder(entry):
            yield from _files_below(folder, f"{prefix}{entry.name}/", (*above, place))
        else:
            yield f"{prefix}{entry.name}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
