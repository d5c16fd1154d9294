"""Reads a source's images in their order, those behind URLs many at a time; each that cannot be read says why."""

import contextlib
import errno
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from ccscale.data.remote.downloads import Url, UrlError, download
from ccscale.data.sources.contents import File, FilePart
from ccscale.data.sources.items import Item
from ccscale.errors import BadImage, Fault

# What says nothing about a file and all about the machine or its network: the next file would fare the same.
LOST = frozenset([errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV])
FULL = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM])


class NotNow(BadImage):
    """An image that could not be read for a reason that may pass: another try, later, may end otherwise."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a shard stores it, in a tar of ours."""

    path: str
    offset: int
    size: int
    extension: str

    def read(self) -> bytes:
        return FilePart(self.path, self.offset, self.size).read()


@dataclass(frozen=True, slots=True)
class Failed:
    """An image that was tried before, in vain."""

    reason: str
    temporary: bool

    @property
    def path(self) -> None:
        return None

    @property
    def size(self) -> int:
        return 0

    def read(self) -> bytes:
        raise self.error

    @property
    def error(self) -> BadImage:
        """The exception of reading it."""
        return (NotNow if self.temporary else BadImage)(self.reason)


def read_images(
    items: Sequence[Item], tick: Callable[[int], None]
) -> Generator[tuple[Item, bytes | BadImage], None, None]:
    """Yield each item with its bytes or its error, in order.

    `tick` is called with the number of images that have been read, or have failed, since its last call.

    Raises
    ------
    Fault
        If no file can be read, because the place that the source is on has gone.
    """
    fetched = download([item.content.url for item in items if isinstance(item.content, Url)], tick)
    with contextlib.closing(fetched):
        for item in items:
            if isinstance(item.content, Url):
                found = next(fetched)
                if isinstance(found, UrlError):
                    failure = NotNow if found.temporary else BadImage
                    yield item, failure(f"the file cannot be read: {found.strerror}")
                else:
                    yield item, found
                continue
            tick(1)
            try:
                data = read_local(item)
            except BadImage as error:
                yield item, error
            else:
                yield item, data


def read_local(item: Item) -> bytes:
    """Return the bytes of an item's file; raises BadImage if this cannot be read, Fault if no file can."""
    try:
        return item.content.read()
    except OSError as error:
        reason, path = error.strerror or str(error), item.content.path
        listed = not isinstance(item.content, File) or item.content.listed
        gone = error.errno == errno.ENOENT and listed and not os.path.isdir(os.path.dirname(path or "/"))
        if path is not None and (gone or error.errno in LOST | FULL):
            raise Fault(
                f"the source can no longer be read, at {path} ({reason}): run the same command again once "
                "it can; complete shards are kept"
            ) from None
        raise BadImage(f"the file cannot be read: {reason}") from None
