"""The stash: images read before their shard is written, kept as shards store them, so that none is read twice.

    OUT/.ccscale-making/kept/
        read-000000.tar             read beforehand: for hashes, for sizes, or once more after they could not be
        read-000000.index.parquet   where they lie; as `origin` the SHA-256 of the file that was read
        read-000000.failed.json     those that could not be read, and why; written last
        shard-000000.tar            a shard of an earlier call that is made again; likewise

They take as much room as in the shards, until the conversion ends.
"""

import contextlib
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ccscale import atomic
from ccscale.data.conversion.conversion import STASH, Conversion
from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.conversion.reading import Failed, Prepared, read_images
from ccscale.data.conversion.rejected import Rejected
from ccscale.data.images.decode import silence_pillow
from ccscale.data.remote.downloads import Url
from ccscale.data.shards import index
from ccscale.data.shards.index import ShardIndex
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.tar_writer import TarWriter
from ccscale.data.sources.cells import Cell
from ccscale.data.sources.items import Item
from ccscale.errors import BadImage
from ccscale.pool import Tick
from ccscale.progress import Meter

CHUNK = 1000  # images of a tar
FAILED = ".failed.json"
SHARD = "shard-"


class _Failure(NamedTuple):
    """An image that cannot be used; `sha256` is "" where not even its bytes are known."""

    rejected: Rejected
    sha256: str


class Stash:
    """Images read before their shard is written.

    Attributes
    ----------
    images
        Key to image.
    failed
        Key to why an image behind a URL is rejected.
    hashes
        Key to the SHA-256, in hexadecimal, of a file that was read; "" where it could not be.
    """

    def __init__(self, conversion: Conversion) -> None:
        self.conversion = conversion
        self._folder = os.path.join(conversion.folder, STASH)
        self.images: dict[str, Prepared] = {}
        self.failed: dict[str, Rejected] = {}
        self.hashes: dict[str, str] = {}
        names = sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []
        stems = [name.removesuffix(FAILED) for name in names if name.endswith(FAILED)]
        for stem in sorted(stems, key=lambda stem: not stem.startswith(SHARD)):
            self._load(stem)
        self._number = len(names)  # above those that are taken

    def content_of(self, item: Item) -> Item:
        """Return an item that reads from the stash if it is there, else the item itself."""
        if (image := self.images.get(item.key)) is not None:
            return Item(item.key, image, item.label, item.origin)
        if (failed := self.failed.get(item.key)) is not None:
            content = Failed(failed.reason, bool(failed.temporary))
            return Item(item.key, content, item.label, item.origin)
        return item

    def knows(self, item: Item) -> bool:
        """Return whether an image need not be read any more."""
        return item.key in self.images or item.key in self.failed

    def read(self, items: Iterable[tuple[str, Item]], what: str) -> None:
        """Read images, given as (split, item), into the stash; `what` is shown with the progress."""
        todo = list(items)
        if not todo:
            return
        os.makedirs(self._folder, exist_ok=True)
        chunks = []
        for start in range(0, len(todo), CHUNK):
            chunks.append((f"read-{self._number:06d}", todo[start : start + CHUNK]))
            self._number += 1
        with Meter(what, len(todo), "images", self.conversion.progress) as meter:
            function = functools.partial(_read_chunk, self._folder, self.conversion.preparation)
            self.conversion.run(function, chunks, meter)
        for name, _ in chunks:
            self._load(name)

    def take_in(self, shard: str | None, rejected: Sequence[Rejected]) -> None:
        """Move a shard and its index here, and note its rejected images."""
        os.makedirs(self._folder, exist_ok=True)
        stem = f"{SHARD}{self._number:06d}"
        self._number += 1
        failures = [_Failure(line, "") for line in rejected]
        atomic.write_bytes(os.path.join(self._folder, stem + FAILED), json.dumps(failures).encode())
        if shard is not None:
            place = os.path.join(self._folder, f"{stem}.tar")
            os.replace(shard, place)
            with contextlib.suppress(FileNotFoundError):
                os.replace(index.index_location(shard), index.index_location(place))
        newer = dict(self.failed)
        self._load(stem)
        self.failed |= newer

    def _load(self, stem: str) -> None:
        path = os.path.join(self._folder, f"{stem}.tar")
        if os.path.exists(path):
            try:
                with open(index.index_location(path), "rb") as file:
                    found = index.from_parquet(file.read())
            except FileNotFoundError:  # it was killed as it moved a shard
                found = index.scan_tar(path)
            for key, ext, offset, size in zip(
                found.keys, found.exts, found.offsets, found.sizes, strict=True
            ):
                self.images[key] = Prepared(path, int(offset), int(size), ext)
                self.failed.pop(key, None)
            if not stem.startswith(SHARD):
                hashes = found.origins or []
                self.hashes |= {key: sha256 or "" for key, sha256 in zip(found.keys, hashes, strict=True)}
        with open(os.path.join(self._folder, stem + FAILED), "rb") as file:
            failures = [_Failure(Rejected(*line), sha256) for line, sha256 in json.loads(file.read())]
        for failure in failures:
            self.failed[failure.rejected.key] = failure.rejected
            if not stem.startswith(SHARD):
                self.hashes[failure.rejected.key] = failure.sha256


def is_costly(item: Item) -> bool:
    """Return whether an image should be read only once: from a URL or a table cell."""
    return isinstance(item.content, Url | Cell)


def _read_chunk(
    folder: str, preparation: Preparation, chunk: tuple[str, list[tuple[str, Item]]], tick: Tick
) -> None:
    """Read some images into a tar; runs in a worker process."""
    name, items = chunk
    path = os.path.join(folder, f"{name}.tar")
    rows: list[index.Row] = []
    failures: list[_Failure] = []
    with warnings.catch_warnings(), atomic.replacing(path) as file:
        silence_pillow()
        tar = TarWriter(file)
        found = read_images([item for _, item in items], tick)
        for (split, _), (item, data) in zip(items, found, strict=True):
            sha256 = ""
            try:
                if isinstance(data, BadImage):
                    raise data
                sha256 = hashlib.sha256(data).hexdigest()
                stored, extension = prepare(data, preparation)
            except BadImage as error:
                if is_costly(item):
                    failures.append(_Failure(Rejected.of(split, item, error), sha256))
                continue
            offset = tar.add(f"{item.key}.{extension}", stored)
            rows.append((item.key, extension, offset, len(stored), UNKNOWN, sha256))
        tar.finish()
    index.write_index(index.index_location(path), ShardIndex.from_rows(rows))
    atomic.write_bytes(os.path.join(folder, name + FAILED), json.dumps(failures).encode())
