"""A cache of bounded size for pages of remote files, shared by several processes.

::

    DIR/bytes            what the files below weigh, as a number; its lock is held to reckon, never to read or load
    DIR/3f/3f9c….piece   a page: its bytes, then their length and CRC-32
    DIR/….part           a page that is being written, under a lock that its writer's death lets go

Space for a page is reserved before it is written; if there is none, the least recently used pages are removed
first, so the folder never exceeds its bound. Pages appear by a rename, are read without a lock, and may vanish at
any time; a damaged one is removed and counts as missing. If the folder cannot be written (a full disk), this is
reported once, and the process continues without it.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ccscale.errors import InputError

BYTES, PAGE, PART = "bytes", ".piece", ".part"  # names in folders that earlier releases made, too
KEEP = 0.9  # of the bound is what is left after a removal: it costs a look at every file, so it is to be rare

_TRAILER = struct.Struct("<QL4s")  # length, CRC-32, mark
_MARK = b"ccs1"


class Cache:
    """Pages by name, in a folder that other processes use at the same time.

    Raises
    ------
    InputError
        If the folder cannot be made or written.
    """

    def __init__(self, folder: str, bound: int) -> None:
        self._folder, self._bound = folder, bound
        self._writes = True
        try:
            os.makedirs(self._folder, exist_ok=True)
            with self._reckoning():
                pass
        except OSError as error:
            raise InputError(
                f"the cache {folder} cannot be used ({error.strerror}): set data.cache to a folder on a "
                "local disk"
            ) from None

    def get(self, *name: object) -> memoryview | None:
        """Return a page; None if it is not there."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            return None
        data = memoryview(content)[: -_TRAILER.size]
        if content[-_TRAILER.size :] != _trailer(data):
            _unlink(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def put(self, data: bytes | bytearray | memoryview, *name: object) -> None:
        """Keep a page, if there is room for it at all."""
        path, size = self._path(name), len(data) + _TRAILER.size
        if not self._writes or size > self._bound or os.path.exists(path):
            return
        try:
            with self._begin(size) as (file, part):
                file.write(data)
                file.write(_trailer(memoryview(data)))
                file.flush()
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with self._reckoning():
                    if not os.path.exists(path):  # or another process was faster
                        os.rename(part, path)
        except OSError as error:
            self._writes = False
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            os.write(
                2, f"the cache {self._folder} cannot be written ({reason}): going on without it\n".encode()
            )

    def _path(self, name: tuple[object, ...]) -> str:
        digest = hashlib.blake2b(repr(name).encode(), digest_size=20).hexdigest()
        return os.path.join(self._folder, digest[:2], digest + PAGE)

    @contextlib.contextmanager
    def _begin(self, size: int) -> Iterator[tuple[BinaryIO, str]]:
        """Open a new part whose room is taken; unless it was renamed, remove it and give its room back."""
        with contextlib.ExitStack() as stack:
            with self._reckoning() as weight:
                if weight.bytes + size > self._bound:
                    weight.bytes = self._weigh(self._bound - size)
                handle, path = tempfile.mkstemp(PART, dir=self._folder)
                file = stack.enter_context(os.fdopen(handle, "wb"))
                weight.bytes += size
                stack.callback(self._give_up, path, size)
                fcntl.flock(file, fcntl.LOCK_EX)
                file.truncate(size)  # from now on it weighs what it will
            yield file, path

    def _give_up(self, part: str, size: int) -> None:
        with contextlib.suppress(OSError), self._reckoning() as weight:
            os.unlink(part)
            weight.bytes -= size

    @contextlib.contextmanager
    def _reckoning(self) -> "Iterator[_Weight]":
        """Hold the folder's lock, with what its files weigh."""
        handle = os.open(os.path.join(self._folder, BYTES), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            text = os.pread(handle, 32, 0)
            weight = _Weight(int(text) if text.isdigit() else self._weigh(self._bound))
            try:
                yield weight
            finally:
                os.pwrite(handle, b"%020d" % weight.bytes, 0)
        finally:
            os.close(handle)

    def _weigh(self, room: int) -> int:
        """Return what all files weigh, after removing dead parts and, if it is above `room`, the oldest pages."""
        total, pages = 0, []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(PART) and _is_dead(path):
                    _unlink(path)
                with contextlib.suppress(OSError):
                    facts = os.stat(path)
                    total += facts.st_size if name.endswith((PART, PAGE)) else 0
                    if name.endswith(PAGE):
                        pages.append((facts.st_mtime_ns, facts.st_size, path))
        if total > room:
            for _, size, path in sorted(pages):
                if total <= min(room, KEEP * self._bound):
                    break
                _unlink(path)
                total -= size
        return total


@dataclass
class _Weight:
    bytes: int


def _trailer(data: memoryview) -> bytes:
    return _TRAILER.pack(len(data), zlib.crc32(data), _MARK)


def _is_dead(part: str) -> bool:
    """Return whether the writer of a part has died: it held the part's lock."""
    try:
        with open(part, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
