"""Reads single samples from shards by their number, through the shards' indexes."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import fsspec
import numpy as np

from ccscale.data import location
from ccscale.data.index import ShardError, ShardIndex, read_index
from ccscale.data.manifest import Manifest

T = TypeVar("T")

OPEN_FILES = 128
OPEN_INDEXES = 1024


class Sample(NamedTuple):
    """An encoded image and what is known of it."""

    key: str
    data: bytes
    label: int
    """-1 where it is not known."""


class SampleReader:
    """Reads sample i of some splits of a data set, counted through their shards in the manifest's order.

    Indexes are loaded and files opened when they are first needed, and the least recently used are closed: an
    instance is small and can be sent to a worker.

    Parameters
    ----------
    manifest
        The data set.
    splits
        The splits to count through.

    Raises
    ------
    InputError
        For an unknown split.
    """

    def __init__(self, manifest: Manifest, splits: Sequence[str]) -> None:
        self._manifest = manifest
        self._shards = manifest.select(splits)
        self._starts = np.cumsum([0, *(shard.nsamples for shard in self._shards)])
        self._indexes: OrderedDict[int, ShardIndex] = OrderedDict()
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def key(self, sample: int) -> str:
        """Return the name of a sample, without reading it."""
        shard, place = self._locate(sample)
        return self._index(shard).keys[place]

    def __getitem__(self, sample: int) -> Sample:
        """Read a sample.

        Raises
        ------
        ShardError
            If its shard cannot be read there.
        """
        shard, place = self._locate(sample)
        index = self._index(shard)
        offset, size = int(index.offsets[place]), int(index.sizes[place])
        try:
            data = self._read(shard, offset, size)
        except OSError as error:
            raise ShardError(self._path(shard), f"it cannot be read at byte {offset}: {error}") from None
        if len(data) != size:
            raise ShardError(self._path(shard), f"it ends before byte {offset + size}; it was cut off")
        return Sample(index.keys[place], data, int(index.labels[place]))

    def _locate(self, sample: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, sample, side="right")) - 1
        return shard, sample - int(self._starts[shard])

    def _path(self, shard: int) -> str:
        return self._manifest.locate(self._shards[shard])

    def _index(self, shard: int) -> ShardIndex:
        def load() -> ShardIndex:
            return read_index(self._manifest, self._shards[shard])

        return _recent(self._indexes, shard, load, OPEN_INDEXES, drop=lambda index: None)

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        path = self._path(shard)
        if location.is_url(path):
            filesystem, path = fsspec.core.url_to_fs(path)
            return filesystem.cat_file(path, start=offset, end=offset + size)
        file = _recent(self._files, shard, lambda: os.open(path, os.O_RDONLY), OPEN_FILES, drop=os.close)
        return os.pread(file, size, offset)


def _recent(
    cache: OrderedDict[int, T], name: int, make: Callable[[], T], limit: int, drop: Callable[[T], None]
) -> T:
    """Return an entry of a cache that keeps the `limit` most recently used."""
    if name not in cache:
        cache[name] = make()
        if len(cache) > limit:
            drop(cache.popitem(last=False)[1])
    cache.move_to_end(name)
    return cache[name]
