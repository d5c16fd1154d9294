"""Reads the headers of a tar, so that each of its members can be found by a seek.

A tar is a row of members, each a header of 512 bytes and its data filled up to whole blocks of 512, and blocks of
zeros at the end. `tarfile` reads it; what it takes for the end and is none is told here, and a header cannot make
it read without end. A tar may lie inside another.
"""

import itertools
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Self, cast

from ccscale.data.shards.errors import CompressedTar, ShardError
from ccscale.errors import InputError

HEADER_BYTES = 2**20  # of a header with extended attributes, at most


class Packing(NamedTuple):
    """A way of compressing tars: how their files begin and end, and what unpacks them."""

    magic: bytes
    endings: tuple[str, ...]
    program: str


PACKINGS = (
    Packing(b"\x1f\x8b", (".tar.gz", ".tgz"), "gunzip"),
    Packing(b"\x28\xb5\x2f\xfd", (".tar.zst", ".tzst"), "unzstd --rm"),
    Packing(b"\xfd7zXZ\0", (".tar.xz", ".txz"), "unxz"),
    Packing(b"BZh", (".tar.bz2", ".tbz", ".tbz2"), "bunzip2"),
    Packing(b"\x04\x22\x4d\x18", (".tar.lz4",), "unlz4 --rm"),
    Packing(b"\x1f\x9d", (".tar.Z",), "uncompress"),
)

# What `tarfile` lets out on damaged tars, besides its own errors.
_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
)


def tar_members(
    file: BinaryIO, name: str, start: int = 0, size: int | None = None
) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's members, and make sure that their end is the tar's end.

    Parameters
    ----------
    file
        Seekable.
    name
        What to call the tar in errors.
    start, size
        Where in the file it lies; by default it is the whole file. Members' offsets count from `start`.

    Raises
    ------
    ShardError
        If the tar is damaged or cut off; CompressedTar if it is compressed.
    """
    view = _Headers(file, start, size)
    begin = view.take(tarfile.BLOCKSIZE)
    for packing in PACKINGS:
        if begin.startswith(packing.magic):
            what = "it is compressed, so that nothing in it can be found by a seek"
            raise CompressedTar(name, f"{what}: run {packing.program} on it")
    view.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=cast(BinaryIO, view), mode="r:", encoding="utf-8", tarinfo=_Header) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= member.offset:  # tarfile would go round in circles
                    raise tarfile.ReadError(f"the member {member.name!r} ends before it begins")
                tar.members.clear()  # type: ignore[attr-defined]  # they are held by nobody
                yield member
            end = tar.offset
        view.seek(end)
        mark = view.take(tarfile.BLOCKSIZE)
        rest = iter(lambda: view.take(1 << 20), b"")
        empty = all(part.count(0) == len(part) for part in itertools.chain([mark], rest))
    except InputError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        block = view.tell() // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        raise ShardError(name, f"the tar is damaged or truncated at byte {block}: {reason}") from None
    if len(mark) < tarfile.BLOCKSIZE:
        raise ShardError(name, f"the tar is truncated at byte {end}: it has no end mark")
    if not empty:
        raise ShardError(name, f"the tar is damaged at byte {end}: there is neither a header nor an end mark")


class _Header(tarfile.TarInfo):
    """A header that, where it is damaged, is not passed over: newer releases of Python take some for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the header of the next member."""
        begin = archive.offset
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError:
            archive.offset = begin
            archive.fileobj.seek(begin)  # so that its place is told
            raise


class _Headers:
    """A tar as `tarfile` sees it: a header that claims to be large is not read into memory."""

    def __init__(self, file: BinaryIO, start: int, size: int | None) -> None:
        self._file, self._start = file, start
        self._stop = None if size is None else start + size
        self._sum = 0
        self.seek(0)

    def seek(self, offset: int) -> int:
        return self._file.seek(self._start + offset) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int) -> bytes:
        # Python 3.14 reads what is large in parts.
        self._sum = self._sum + size if size > tarfile.BLOCKSIZE else 0
        if size < 0 or self._sum > HEADER_BYTES:
            what = f"more than {HEADER_BYTES}" if size > 0 else str(size)
            raise tarfile.ReadError(f"a header claims to have {what} bytes")
        return self.take(size)

    def take(self, size: int) -> bytes:
        """Read, whatever the size, up to the tar's end."""
        return self._file.read(
            size if self._stop is None else max(0, min(size, self._stop - self._file.tell()))
        )
