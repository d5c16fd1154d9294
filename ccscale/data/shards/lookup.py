"""A worker's lookup of samples: the entries of all shards, and the indexes of those in use.

Both are columns of numbers and text rather than objects: about 100 bytes a shard, and about 50 bytes a sample of
the indexes that are kept, up to a bound.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ccscale.data.remote import location
from ccscale.data.remote.fetch import RemoteFile
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest_file import Shard

INDEX_BYTES = 128 * 2**20  # of the indexes that a process keeps


class ShardTable:
    """The entries of some shards of a manifest."""

    def __init__(self, root: str, shards: Sequence[Shard]) -> None:
        self.root = root
        self._urls = pa.array([shard.url for shard in shards], pa.large_string())
        self._sizes = np.array([shard.filesize for shard in shards], np.int64)
        self._hashes = b"".join(bytes.fromhex(shard.sha256) for shard in shards)
        self._starts = np.cumsum([0, *(shard.nsamples for shard in shards)], dtype=np.int64)

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return int(self._starts[-1])

    @property
    def bytes(self) -> int:
        """Bytes in all shards."""
        return int(self._sizes.sum())

    @property
    def is_remote(self) -> bool:
        """Whether any of the shards is behind a URL."""
        if location.is_url(self.root):
            return True
        return any(location.is_url(url.as_py()) for url in self._urls)

    def find(self, sample: int) -> tuple[int, int]:
        """Return the shard of a sample, and its row there."""
        shard = int(self._starts.searchsorted(sample, side="right")) - 1
        return shard, sample - int(self._starts[shard])

    def place(self, shard: int) -> str:
        """Return a shard's path or URL."""
        return location.join(self.root, self._urls[shard].as_py())

    def remote_file(self, shard: int) -> RemoteFile:
        """Return the remote file of a shard."""
        return self.entry(shard).behind(self.place(shard))

    def entry(self, shard: int) -> Shard:
        """Return a shard's entry; its split is not known here."""
        return Shard(
            url=self._urls[shard].as_py(),
            nsamples=int(self._starts[shard + 1] - self._starts[shard]),
            filesize=int(self._sizes[shard]),
            sha256=self._hashes[32 * shard : 32 * (shard + 1)].hex(),
            split="",
        )


@dataclass(frozen=True, slots=True)
class Index:
    """The samples of a shard, in its order: names, where their images lie, labels (-1 where not known).

    `origins`, where the images came from, is kept where somebody asks for it.
    """

    keys: pa.Array
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]
    origins: pa.Array | None = None

    @classmethod
    def from_table(cls, table: pa.Table, origins: bool = False) -> "Index":
        """Take the columns of an index file."""
        labels = table["label"].fill_null(UNKNOWN).to_numpy()
        kept = _texts(table, "origin") if origins and "origin" in table.column_names else None
        return cls(_texts(table, "key"), table["offset"].to_numpy(), table["size"].to_numpy(), labels, kept)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        own = self.keys.nbytes + self.offsets.nbytes + self.sizes.nbytes + self.labels.nbytes
        return own + (0 if self.origins is None else self.origins.nbytes)


def _texts(table: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays(table[name].chunks) if table[name].num_chunks else pa.array([], pa.string())


class Indexes:
    """The indexes that were used last, for several threads; each is loaded once, whoever asks for it.

    Parameters
    ----------
    load
        Loads a shard's index.
    bound
        Bytes of the indexes that are kept; at least one is.
    """

    def __init__(self, load: Callable[[int], Index], bound: int = INDEX_BYTES) -> None:
        self._load, self._bound = load, bound
        self._kept: OrderedDict[int, Future[Index]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __getitem__(self, shard: int) -> Index:
        """Return a shard's index; raises errors of loading it."""
        with self._lock:
            future = self._kept.get(shard)
            if mine := future is None:
                future = self._kept[shard] = Future()
            self._kept.move_to_end(shard)
        if mine:
            try:
                index = self._load(shard)
            except BaseException as error:
                with self._lock:
                    del self._kept[shard]
                future.set_exception(error)
                raise
            with self._lock:
                future.set_result(index)
                self._bytes += index.nbytes
                for old in [n for n, f in self._kept.items() if f.done() and n != shard]:
                    if self._bytes <= self._bound:
                        break
                    self._bytes -= self._kept.pop(old).result().nbytes
        return future.result()
