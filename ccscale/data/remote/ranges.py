"""Byte ranges of remote files through fsspec: each checked for its length and its file's size, none forever.

Over HTTP a range is requested here and not by fsspec, which takes whatever the server sends: the answer must be
``206`` with the ``Content-Range`` that was requested, and its total tells at no cost whether the file is still the
one of the manifest. Elsewhere the file's size is requested once.
"""

import asyncio
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fsspec.asyn import AsyncFileSystem

from ccscale.data.remote import location
from ccscale.data.remote.location import SCHEMES, scheme
from ccscale.data.remote.retry import MISSING, REFUSED, Patience, RemoteError, RemoteRefused, describe
from ccscale.errors import Fault, InputError
from ccscale.threads import background

CONNECTIONS = 8  # requests of a process at a time
SLOWEST = 64 * 1024  # bytes a second; a request that is slower is taken for a stalled one
LARGEST_FILE = 256 * 2**20  # of those that are read whole: what the time limit is reckoned from
KNOWN_SIZES = 4096  # files whose sizes were compared, that are remembered

Bytes = bytes | bytearray


class Remote:
    """Reads remote files, from several threads; it may be sent to another process while nothing is read."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._systems: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._sized: OrderedDict[str, None] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_patience": self._patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._patience = state["_patience"]
        self._start()

    def read(self, url: str, start: int, stop: int, size: int) -> Bytes:
        """Return bytes `start` to `stop` of a file that must have `size` bytes.

        Raises
        ------
        FileNotFoundError
            If there is none.
        RemoteError
            If it has another size, access to it is refused, or the server cannot send a part of a file.
        Unreachable
            If it could not be read for as long as it was tried.
        """
        return self._persist(url, (start, stop), size)

    def read_all(self, url: str) -> Bytes:
        """Return a whole file, such as an index; raises what `read` does."""
        return self._persist(url, None, None)

    def _persist(self, url: str, span: tuple[int, int] | None, size: int | None) -> Bytes:
        try:
            return self._patience.call(url, lambda: self._attempt(url, span, size))
        except (FileNotFoundError, RemoteError, Fault, InputError):
            raise
        except Exception as error:  # of the file system's own kinds
            what = describe(error)
            if what == MISSING:
                raise FileNotFoundError(url) from None
            raise (RemoteRefused if what == REFUSED else RemoteError)(what) from None

    def _attempt(self, url: str, span: tuple[int, int] | None, size: int | None) -> Bytes:
        if os.getpid() != self._pid:  # forked: file systems and locks are the parent's
            self._start()
        stall = self._patience.stall
        limit = stall + (LARGEST_FILE if span is None else span[1] - span[0]) / SLOWEST
        system, path = self._open(url)
        with self._slots:
            if _is_http(system):
                return _run(system.loop, lambda: _get(system, path, span, size, stall), limit)
            if span is None:
                return _call(system, "cat_file", limit, path)
            if url not in self._sized:
                found = _call(system, "info", stall, path).get("size")
                if found is not None and found != size:
                    raise _other_size(found, size)
                self._sized[url] = None
                if len(self._sized) > KNOWN_SIZES:
                    self._sized.popitem(last=False)
            try:
                data = _call(system, "cat_file", limit, path, start=span[0], end=span[1])
                if len(data) != span[1] - span[0]:
                    raise ConnectionError(f"received {len(data)} bytes instead of {span[1] - span[0]}")
                return data
            except Exception:
                self._sized.pop(url, None)  # it may have been replaced: look again before the next try
                raise

    def _open(self, url: str) -> tuple[Any, str]:
        """Return the file system of a URL, one for all threads, and the path there."""
        with self._opening:
            # Not by fsspec's own cache of instances, which has one for each thread.
            root = "/".join(url.split("/", 3)[:3])
            system = self._systems.get(root)
            if system is not None:
                return system, system._strip_protocol(url)
            try:
                system, path = location.file_system(url)
            except ImportError as error:
                package = SCHEMES.get(scheme(url))
                remedy = f"run `pip install {package}`" if package else str(error)
                raise InputError(f"{url} needs another package: {remedy}") from None
            if "::" not in url:
                self._systems[root] = system
            return system, path


def _is_http(system: Any) -> bool:
    # By the class: what stands in `protocol` differs between releases, and to import the class needs aiohttp.
    return any(kind.__module__ == "fsspec.implementations.http" for kind in type(system).__mro__)


def _call(system: Any, method: str, limit: float, *arguments: Any, **options: Any) -> Any:
    """Call a method of a file system, for at most `limit` seconds."""
    if isinstance(system, AsyncFileSystem):
        return _run(system.loop, lambda: getattr(system, f"_{method}")(*arguments, **options), limit)
    return background(lambda: getattr(system, method)(*arguments, **options)).result(limit)


def _run(loop: asyncio.AbstractEventLoop, start: Callable[[], Any], limit: float) -> Any:
    async def call() -> Any:
        return await asyncio.wait_for(start(), limit)

    return asyncio.run_coroutine_threadsafe(call(), loop).result()


async def _get(system: Any, url: str, span: tuple[int, int] | None, size: int | None, stall: float) -> Bytes:
    import aiohttp

    options = dict(system.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=stall, sock_read=stall)
    session = await system.set_session()
    async with session.get(system.encode_url(url), headers=headers, **options) as response:
        if response.status == 404:
            raise FileNotFoundError(url)
        if span is None:
            response.raise_for_status()
            return await response.read()
        _check_head(response, span, size)
        data, filled = bytearray(span[1] - span[0]), 0
        async for part in response.content.iter_any():
            data[filled : filled + len(part)] = part
            filled += len(part)
            if filled > span[1] - span[0]:
                break
    if filled != span[1] - span[0]:
        raise ConnectionError(f"received {filled} bytes instead of {span[1] - span[0]}")
    return data


def _check_head(response: Any, span: tuple[int, int], size: int | None) -> None:
    """Check that an answer holds the range asked for, of a file of `size` bytes."""
    said = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = said[2] if said else response.headers.get("Content-Length")
    if response.status in (200, 206, 416) and total not in (None, "*") and (said or response.status == 200):
        if int(total) != size:
            raise _other_size(int(total), size)
        if response.status == 200 and span == (0, size):
            return
    if response.status == 200:
        raise RemoteError("the server does not support HTTP range requests: copy the shards elsewhere")
    response.raise_for_status()
    if response.status != 206 or said is None or said[1] != str(span[0]):
        raise ConnectionError("the server sent a different byte range than requested")


def _other_size(found: int, size: int | None) -> RemoteError:
    return RemoteError(f"it has {found} bytes, but {size} in the manifest: it was replaced or truncated")
