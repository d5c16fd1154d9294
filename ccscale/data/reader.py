"""Reads single samples from shards by their number, and many at once from remote ones, through the indexes."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ccscale.data.remote import location
from ccscale.data.remote.access import Access
from ccscale.data.remote.fetch import AT_ONCE, ByteRange, Fetcher, read_ranges
from ccscale.data.remote.ranges import Bytes
from ccscale.data.remote.retry import MISSING, Closing, RemoteError
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import read_table, scan_tar
from ccscale.data.shards.lookup import Index, Indexes, ShardTable
from ccscale.data.shards.manifest import Manifest
from ccscale.regular import regular
from ccscale.threads import each

OPEN_FILES = 128


class Sample(NamedTuple):
    """An encoded image with its key and label."""

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
    access
        How shards that are no local files are read.
    closing
        Ends the tries of all reads that are under way.
    origins
        Keep what `origin` returns, about as much again as the rest of an index.

    Attributes
    ----------
    shown
        The channels that pictures show, of images of channels; see `open_picture`.

    Raises
    ------
    InputError
        For an unknown split.
    """

    def __init__(
        self,
        manifest: Manifest,
        splits: Sequence[str],
        access: Access | None = None,
        closing: Closing | None = None,
        origins: bool = False,
    ) -> None:
        self.access = access or Access()
        self._origins = origins
        self.closing = closing
        self.labelling, self.shown = manifest.labelling, manifest.shown
        self.shards = ShardTable(manifest.root, manifest.select(splits))
        self._fetcher = Fetcher(self.access, self.closing)
        self._start()

    def _start(self) -> None:
        self._indexes = Indexes(self._load_index)
        self._files: OrderedDict[int, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        names = ("access", "closing", "labelling", "shown", "shards", "_fetcher", "_origins")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()

    def __len__(self) -> int:
        return self.shards.samples

    @property
    def is_remote(self) -> bool:
        """Whether any of the shards is behind a URL."""
        return self.shards.is_remote

    def key(self, sample: int) -> str:
        """Return the name of a sample, without reading it."""
        shard, row = self.shards.find(sample)
        return self._indexes[shard].keys[row].as_py()

    def origin(self, sample: int) -> str | None:
        """Return the origin of a sample's image, a path or a URL; None if unknown."""
        shard, row = self.shards.find(sample)
        kept = self._indexes[shard].origins
        return None if kept is None else kept[row].as_py()

    def with_origins(self) -> "SampleReader":
        """Return a reader that also returns the origins of images."""
        other = copy(self)
        other._origins = True
        return other

    def __getitem__(self, sample: int) -> Sample:
        """Read a sample.

        Raises
        ------
        ShardError
            If its shard cannot be read there.
        Unreachable
            If its shard could not be read for as long as it was tried.
        """
        span = self._span(sample)
        return self.describe(sample, bytes(self._read(span)))

    def describe(self, sample: int, data: bytes) -> Sample:
        """Return a sample whose bytes were read before."""
        shard, row = self.shards.find(sample)
        index = self._indexes[shard]
        return Sample(index.keys[row].as_py(), data, int(index.labels[row]))

    def read_remote(self, samples: Sequence[int], bound: int) -> dict[int, bytes]:
        """Read the bytes of samples in remote shards, with few requests and as far as there is room.

        Parameters
        ----------
        samples
            In the order in which they will be used: those that come first are read. Local ones are left out.
        bound
            Bytes that they have together, at most.

        Raises
        ------
        ShardError, Unreachable
            As `__getitem__` does.
        """
        homes = {sample: self.shards.find(sample)[0] for sample in samples}
        remote = {shard for shard in set(homes.values()) if self._is_remote(shard)}
        each([partial(self._indexes.__getitem__, shard) for shard in sorted(remote)], AT_ONCE)
        spans = {sample: self._span(sample) for sample in samples if homes[sample] in remote}
        weights = np.cumsum([span.stop - span.start for span in spans.values()])
        taken = list(spans.items())[: int(np.searchsorted(weights, bound, side="right"))]
        wanted = [span for _, span in taken]
        found = read_ranges(
            wanted, self._fetcher.grain, lambda shard: self.shards.entry(shard).filesize, self._read
        )
        return {sample: found[span] for sample, span in taken}

    def _is_remote(self, shard: int) -> bool:
        return location.is_url(self.shards.place(shard))

    def _span(self, sample: int) -> ByteRange:
        """Return the position of a sample's bytes."""
        shard, row = self.shards.find(sample)
        index = self._indexes[shard]
        start = int(index.offsets[row])
        return ByteRange(shard, start, start + int(index.sizes[row]))

    def _load_index(self, shard: int) -> Index:
        place, entry = self.shards.place(shard), self.shards.entry(shard)
        table = read_table(place, entry, self._fetcher, self.shards.root, self.labelling)
        if self._origins and "origin" not in table.column_names and not location.is_url(place):
            # An index of an earlier release; the tar has it.
            table = table.append_column(
                "origin", pa.array(scan_tar(place, labelling=self.labelling).origins, pa.string())
            )
        return Index.from_table(table, self._origins)

    def _read(self, span: ByteRange) -> Bytes:
        try:
            # Of an open file nothing more is asked: small local images are read in the time of a few look-ups.
            if span.file not in self._files and self._is_remote(span.file):
                return self._fetcher.read(self.shards.remote_file(span.file), span.start, span.stop)
            data = os.pread(self._file(span.file), span.stop - span.start, span.start)
        except FileNotFoundError:
            raise ShardError(self.shards.place(span.file), MISSING) from None
        except RemoteError as error:
            raise ShardError(self.shards.place(span.file), str(error)) from None
        except OSError as error:
            what = f"it cannot be read at byte {span.start}: {error}"
            raise ShardError(self.shards.place(span.file), what) from None
        if len(data) != span.stop - span.start:
            what = f"it ends before byte {span.stop}; it was cut off"
            raise ShardError(self.shards.place(span.file), what)
        return data

    def _file(self, shard: int) -> int:
        """Return a descriptor of a local shard."""
        if shard not in self._files:
            self._files[shard] = regular(self.shards.place(shard), os.O_RDONLY)
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(shard)
        return self._files[shard]
