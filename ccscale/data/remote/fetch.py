"""Parts of remote files whose size and hash are known, kept in the cache if there is one.

With a cache a file is read in aligned pages of 1 MiB; neighbours that are missing come with one request. Without,
exactly the bytes are read that are wanted, and small gaps between them.
"""

import io
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

from ccscale.data.remote.access import MIB, Access
from ccscale.data.remote.cache import Cache
from ccscale.data.remote.ranges import Bytes, Remote
from ccscale.data.remote.retry import Closing, Patience, RemoteRefused
from ccscale.threads import each

PAGE = MIB  # of the cache
REQUEST = MIB  # bytes that one request asks for, at most
AT_ONCE = 4  # requests of one call
GAP = 32 * 1024  # bytes between two samples that are read along: a second request would take longer


class RemoteFile(NamedTuple):
    """A file behind a URL: its bytes and their SHA-256, as they must be."""

    url: str
    size: int
    sha256: str


class ByteRange(NamedTuple):
    """Bytes `start` to `stop` of file number `file`."""

    file: int
    start: int
    stop: int


class Fetcher:
    """Reads spans of files, several at a time; it may be sent to another process."""

    def __init__(self, access: Access, closing: Closing | None = None) -> None:
        self._access = access
        self._remote = Remote(Patience(access.retry_seconds, closing))

    def __getstate__(self) -> dict[str, Any]:
        return {"_access": self._access, "_remote": self._remote}

    @cached_property
    def _cache(self) -> Cache | None:
        access = self._access
        return None if access.cache is None else Cache(access.cache, access.cache_bytes)

    @property
    def grain(self) -> int:
        """What parts of a file are multiples of."""
        return 1 if self._cache is None else PAGE

    def read(self, file: RemoteFile, start: int, stop: int) -> Bytes:
        """Return bytes `start` to `stop` of a file; raises what `Remote.read` does."""
        if self._cache is None:
            return self._remote.read(file.url, start, stop, file.size)
        data = bytearray(stop - start)
        for first, page in self._pages(file, start, stop):
            low, high = max(start, first), min(stop, first + len(page))
            data[low - start : high - start] = memoryview(page)[low - first : high - first]
        return data

    def index(self, url: str, sha256: str, make: Callable[[], bytes]) -> bytes:
        """Return the index of a file with a SHA-256; where none can be had, what `make` makes of the file.

        Raises
        ------
        RemoteError, Unreachable
            As `Remote.read` does.
        """
        name = ("index", url, sha256)
        kept = self._cache.get(*name) if self._cache is not None else None
        if kept is not None:
            return bytes(kept)
        try:
            data = bytes(self._remote.read_all(url))
        except (FileNotFoundError, RemoteRefused):
            data = make()
        if self._cache is not None:
            self._cache.put(data, *name)
        return data

    def open(self, file: RemoteFile) -> io.BufferedReader:
        """Open a file, to be read from one thread."""
        return io.BufferedReader(_File(self, file), REQUEST)

    def _pages(self, file: RemoteFile, start: int, stop: int) -> list[tuple[int, Bytes | memoryview]]:
        """Return (first byte, bytes) of the cache's pages that hold a span."""
        assert self._cache is not None
        name = (file.url, file.sha256, file.size, PAGE)
        numbers = range(start // PAGE, -(-stop // PAGE))
        pages: dict[int, Bytes | memoryview | None] = {n: self._cache.get(*name, n) for n in numbers}
        missing = [n for n in numbers if pages[n] is None]
        while missing:
            run = 1
            while run < len(missing) and missing[run] == missing[0] + run and (run + 1) * PAGE <= REQUEST:
                run += 1
            low, high = missing[0] * PAGE, min((missing[0] + run) * PAGE, file.size)
            data = memoryview(self._remote.read(file.url, low, high, file.size))
            for n in missing[:run]:
                pages[n] = page = data[n * PAGE - low : (n + 1) * PAGE - low]
                self._cache.put(page, *name, n)
            missing = missing[run:]
        return [(n * PAGE, page) for n, page in pages.items() if page is not None]


class _File(io.RawIOBase):
    def __init__(self, fetcher: Fetcher, file: RemoteFile) -> None:
        self._fetcher, self._file, self._at = fetcher, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._file.size)
        if stop <= self._at:
            return 0
        data = self._fetcher.read(self._file, self._at, stop)
        buffer[: len(data)] = data
        self._at = stop
        return len(data)


def read_ranges(
    spans: Sequence[ByteRange], grain: int, size: Callable[[int], int], read: Callable[[ByteRange], Bytes]
) -> dict[ByteRange, bytes]:
    """Return the bytes of spans, which are read with few requests, as `read` reads each.

    Requests begin and end at multiples of `grain`, or at the end of the file, which has `size` bytes.
    """
    found = {span: bytearray(span.stop - span.start) for span in spans}

    def fill(request: ByteRange, wanted: Sequence[ByteRange]) -> None:
        request = request._replace(stop=min(request.stop, size(request.file)))
        data = memoryview(read(request))
        for span in wanted:
            low, high = max(span.start, request.start), min(span.stop, request.stop)
            found[span][low - span.start : high - span.start] = data[
                low - request.start : high - request.start
            ]

    each([partial(fill, request, wanted) for request, wanted in requests(spans, grain)], AT_ONCE)
    return {span: bytes(found.pop(span)) for span in list(found)}


def requests(
    spans: Sequence[ByteRange], grain: int = 1, gap: int = GAP, most: int = REQUEST
) -> list[tuple[ByteRange, list[ByteRange]]]:
    """Put spans together to requests; return each with the spans that it has a part of.

    Neighbours and those with up to `gap` bytes between them are read at once. Requests begin and end at multiples
    of `grain`, and have at most `most` bytes, a multiple of it too.
    """
    merged: list[tuple[ByteRange, list[ByteRange]]] = []
    for span in sorted(spans):
        wide = ByteRange(span.file, span.start // grain * grain, -(-span.stop // grain) * grain)
        last = merged[-1][0] if merged else None
        if last is not None and last.file == wide.file and wide.start <= last.stop + gap:
            merged[-1][1].append(span)
            merged[-1] = last._replace(stop=max(last.stop, wide.stop)), merged[-1][1]
        else:
            merged.append((wide, [span]))
    bounded = []
    for whole, members in merged:
        for low in range(whole.start, whole.stop, most):
            request = ByteRange(whole.file, low, min(low + most, whole.stop))
            inside = [span for span in members if span.start < request.stop and span.stop > request.start]
            if inside:
                bounded.append((request, inside))
    return bounded
