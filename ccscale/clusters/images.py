"""Reads images of a lineage by their refs, for pictures, if their shards can be read."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.clusters.version import DataSet, TableFile, tables_and_rows
from ccscale.data.reader import SampleReader
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.manifest import Manifest
from ccscale.draw.tiles import square
from ccscale.errors import BadImage, Fault, InputError


class Images:
    """Reads images of tables."""

    def __init__(self, tables: dict[int, TableFile], data: tuple[DataSet, ...]) -> None:
        self._tables, self._roots = tables, {one.name: one.root for one in data}
        self._opened = cache(self._open)

    def tile(self, ref: int, side: int) -> NDArray[np.uint8] | None:
        """Return an image, cut square, (side, side, 3) uint8; None if it cannot be read."""
        (table,), (row,) = (one.tolist() for one in tables_and_rows(np.array([ref])))
        found = self._tables[table]
        reader, firsts = self._opened(found.data)
        if reader is None or found.shard.url not in firsts:
            return None
        try:
            return square(reader[firsts[found.shard.url] + row].data, side, reader.shown)
        except (BadImage, ShardError, Fault, InputError):
            return None

    def can_read(self, refs: Int64) -> bool:
        """Return whether any of some images can be looked for."""
        numbers = np.unique(tables_and_rows(refs)[0]).tolist()
        return any(self._opened(self._tables[number].data)[0] is not None for number in numbers)

    def _open(self, data: str) -> tuple[Any, dict[str, int]]:
        """Return what reads a data set, and the number of each shard's first image there."""
        try:
            manifest = Manifest.load(self._roots[data], retry_seconds=1)
            reader = SampleReader(manifest, tuple(manifest.splits))
        except (InputError, Fault):
            return None, {}
        firsts, first = {}, 0
        for shard in manifest.select(manifest.splits):
            firsts[shard.url] = first
            first += shard.nsamples
        return reader, firsts
