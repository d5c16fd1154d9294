"""Images behind URLs: many read at a time, each whole, within bounds of bytes and seconds.

    requests            up to `AT_ONCE` at a time in a process, whatever the number of its shards
    bytes               what was read and is not used yet stays below `HELD_BYTES`, but for the image that is next;
                        of one image up to `IMAGE_BYTES`
    seconds             `SECONDS` for an image and all attempts at it, more only while its bytes come
    a host that is dead after `DEAD_AFTER` images in a row without a word from it, the others fail at once

Of a million URLs from the web some hosts have gone for good, others for an hour: an error tells whether another
try, later, may end otherwise.
"""

import asyncio
import errno
import urllib.parse
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import fsspec.asyn

from ccscale.data.remote import location, retry
from ccscale.data.remote.location import scheme
from ccscale.threads import background

AT_ONCE = 32
ATTEMPTS = 3
SECONDS = 30.0
CONNECT_SECONDS = 10.0
SLOWEST = 16 * 1024  # bytes a second: what comes more slowly is abandoned
PAUSE_SECONDS = 0.5  # before the second attempt, twice as long before each later one
LONGEST_PAUSE = 20.0  # that a server may ask for
DEAD_AFTER = 3
IMAGE_BYTES = 256 * 2**20
HELD_BYTES = 64 * 2**20
STEP_BYTES = 8 * 2**20  # that is asked of an object store at once
TYPICAL_BYTES = (
    128 * 1024
)  # of an image; to ask a server for each one's size would take as long as to read it
POLL_SECONDS = 0.5


class UrlError(OSError):
    """An image that could not be read; ``strerror`` says why.

    Attributes
    ----------
    temporary
        Whether another try, later, may end otherwise.
    """

    def __init__(self, reason: str, temporary: bool) -> None:
        super().__init__(errno.EIO, reason)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class Url:
    """An image behind a URL of one of `location.SCHEMES`; `size` is a guess."""

    url: str

    @property
    def path(self) -> None:
        return None

    @property
    def size(self) -> int:
        return TYPICAL_BYTES

    def read(self) -> bytes:
        """Return the image; raises UrlError."""
        (outcome,) = download([self.url])
        if isinstance(outcome, UrlError):
            raise outcome
        return outcome


def download(
    urls: Sequence[str], tick: Callable[[int], None] | None = None, held_bytes: int = HELD_BYTES
) -> Generator[bytes | UrlError, None, None]:
    """Yield what is behind each URL in their order, or why it could not be read.

    Parameters
    ----------
    urls
        Sent as they are written.
    tick
        Called with the number of images that have come, or have failed, since the last call, at least every
        `POLL_SECONDS`.
    held_bytes
        See above.
    """
    window = _Window(held_bytes)
    left = iter(enumerate(urls))
    pending: deque[Future[bytes | UrlError]] = deque()
    counted: set[Future[bytes | UrlError]] = set()  # of those that are pending
    try:
        for number in range(len(urls)):
            window.turn_to(number)
            for place, url in left:
                pending.append(window.start(place, url))
                if len(pending) == AT_ONCE:
                    break
            first = pending.popleft()
            while True:
                done = {future for future in (first, *pending) if future.done()} - counted
                counted |= done
                if tick is not None:
                    tick(len(done))
                if first.done():
                    break
                wait([first], POLL_SECONDS)
            counted.discard(first)
            outcome = first.result()
            window.used(outcome)
            yield outcome
    finally:
        for future in pending:
            future.cancel()


class _Window:
    """The requests that are under way; all but `start`, `used` and `turn_to` runs in fsspec's thread."""

    def __init__(self, held_bytes: int) -> None:
        self.next = 0
        self._bound, self._held = held_bytes, 0
        self._silent: Counter[str] = Counter()  # images in a row that a host did not answer for
        self._loop = fsspec.asyn.get_loop()
        self._change = asyncio.Event()

    def start(self, number: int, url: str) -> "Future[bytes | UrlError]":
        return asyncio.run_coroutine_threadsafe(self._read(number, url), self._loop)

    def used(self, outcome: bytes | UrlError) -> None:
        if isinstance(outcome, bytes):
            self._loop.call_soon_threadsafe(self._release, len(outcome))

    def turn_to(self, number: int) -> None:
        # In the loop's thread, behind the release of what was used before: else that would be held beside the next.
        self._loop.call_soon_threadsafe(self._turn_to, number)

    def _turn_to(self, number: int) -> None:
        self.next = number
        self._change.set()

    def _release(self, count: int) -> None:
        self._held -= count
        self._change.set()

    async def _read(self, number: int, url: str) -> bytes | UrlError:
        host = urllib.parse.urlsplit(url).netloc
        download = _Download(self, number)
        try:
            async with asyncio.timeout(SECONDS) as download.limit:
                for attempt in range(1, ATTEMPTS + 1):
                    if self._silent[host] >= DEAD_AFTER:
                        return UrlError("its host does not answer other requests either", temporary=True)
                    try:
                        data = await download.attempt(url)
                        self._silent[host] = 0
                        return data
                    except UrlError as error:
                        return error
                    # File systems behind fsspec have exceptions of their own.
                    except Exception as error:
                        download.drop()
                        if getattr(error, "status", 0) or retry.is_final(error):
                            self._silent[host] = 0
                        failed = UrlError(retry.describe(error), not retry.is_final(error))
                        if not failed.temporary or attempt == ATTEMPTS:
                            break
                        await asyncio.sleep(_pause(error, attempt))
        except TimeoutError:
            came = f"only {download.received:,} bytes of it came in time"
            failed = UrlError(came if download.received else retry.describe(TimeoutError()), temporary=True)
            download.drop()
        if failed.temporary and not download.answered:
            self._silent[host] += 1
        return failed

    async def room(self, number: int, count: int, limit: asyncio.Timeout) -> None:
        """Take room for bytes; wait for it unless this image is the next. The time of waiting is nobody's fault."""
        if self._held + count > self._bound and number != self.next:
            when = limit.when()
            left = None if when is None else when - self._loop.time()
            limit.reschedule(None)
            while self._held + count > self._bound and number != self.next:
                self._change.clear()
                await self._change.wait()
            limit.reschedule(None if left is None else self._loop.time() + left)
        self._held += count


class _Download:
    """An image on its way.

    Attributes
    ----------
    answered
        Whether its host has said anything.
    received
        Bytes of the attempt that is under way.
    limit
        When it is abandoned.
    """

    def __init__(self, window: _Window, number: int) -> None:
        self._window, self._number = window, number
        self.answered = False
        self.received = 0
        self.limit = asyncio.timeout(None)

    def drop(self) -> None:
        """Forget what has come, and give back its room."""
        self._window._release(self.received)
        self.received = 0

    async def attempt(self, url: str) -> bytes:
        system, path = location.file_system(url)
        if scheme(url) in ("http", "https"):
            return await self._from_web(system, path)
        return await self._from_store(system, path)

    async def _take(self, count: int) -> None:
        await self._window.room(self._number, count, self.limit)
        self.received += count
        if self.received > IMAGE_BYTES:
            self.drop()
            raise UrlError(f"it exceeds the limit of {IMAGE_BYTES:,} bytes", temporary=False)
        when = self.limit.when()
        if when is not None:
            self.limit.reschedule(when + count / SLOWEST)

    async def _from_web(self, system: Any, url: str) -> bytes:
        import aiohttp

        options = dict(system.kwargs)
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
        options["timeout"] = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SECONDS / ATTEMPTS
        )
        session = await system.set_session()
        async with session.get(system.encode_url(url), headers=headers, **options) as response:
            self.answered = True
            response.raise_for_status()
            parts = []
            async for part in response.content.iter_any():
                await self._take(len(part))
                parts.append(part)
        return b"".join(parts)

    async def _from_store(self, system: Any, path: str) -> bytes:
        parts = [await _call(system, "cat_file", path, start=0, end=STEP_BYTES)]
        await self._take(len(parts[0]))
        if len(parts[0]) == STEP_BYTES:
            size = (await _call(system, "info", path))["size"]
            for start in range(STEP_BYTES, size, STEP_BYTES):
                part = await _call(system, "cat_file", path, start=start, end=min(start + STEP_BYTES, size))
                await self._take(len(part))
                parts.append(part)
        self.answered = True
        return b"".join(parts)


def _pause(error: Exception, attempt: int) -> float:
    """Return how long to wait before another attempt: as long as the server says, within reason."""
    said = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return min(float(said), LONGEST_PAUSE)
    return float(PAUSE_SECONDS * 2 ** (attempt - 1))


def _call(system: Any, method: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
    if isinstance(system, fsspec.asyn.AsyncFileSystem):
        called: Awaitable[Any] = getattr(system, f"_{method}")(*arguments, **options)
        return called
    return asyncio.wrap_future(background(lambda: getattr(system, method)(*arguments, **options)))
