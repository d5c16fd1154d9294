"""The file of nearest neighbours of a store's rows: ``neighbours.arrow``, memory-mapped.

::

    row      fixed_size_list<int32 or int64>[k]   rows of the store, counted through all files; the nearest first
    cosine   fixed_size_list<float32>[k]          of their features

Row i belongs to row i of the store. A bad row is not a neighbour of any other and has none: its entries are -1.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.array_types import Float32, Int64
from ccscale.errors import InputError

FILE = "neighbours.arrow"
ROWS = 2**14  # of a record batch; the last one may be shorter


def write_neighbours(path: Path, blocks: Iterable[tuple[Int64, Float32]], k: int, rows: int) -> None:
    """Write the file atomically, from blocks of `ROWS` rows (m, k) and their cosines."""
    kind = pa.int32() if rows < 2**31 else pa.int64()
    schema = pa.schema({"row": pa.list_(kind, k), "cosine": pa.list_(pa.float32(), k)})
    with atomic.replacing(path, hidden=True) as file, pa.ipc.new_file(file, schema) as writer:
        for found, cosines in blocks:
            columns = [
                pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), values_kind), k)
                for values, values_kind in ((found, kind), (cosines, pa.float32()))
            ]
            writer.write_batch(pa.record_batch(columns, schema))


class NeighbourFile:
    """The neighbours of a store's rows.

    Parameters
    ----------
    folder
        The store's.
    section
        What its listing has of them.
    sizes
        Rows of each of its files.
    opened
        Which of them are opened: rows are counted through these alone.

    Raises
    ------
    InputError
        If the file is not there, or not the one that is listed.
    """

    def __init__(
        self, folder: Path, section: dict[str, Any], sizes: Int64, opened: NDArray[np.bool_]
    ) -> None:
        path = folder / FILE
        self.k = int(section["k"])
        try:
            if path.stat().st_size != section["bytes"]:
                raise ValueError
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
            self._rows = [batch["row"].values.to_numpy().reshape(-1, self.k) for batch in batches]
            self._cosines = [batch["cosine"].values.to_numpy().reshape(-1, self.k) for batch in batches]
        except (OSError, ValueError, KeyError, pa.ArrowInvalid):
            raise InputError(
                f"{path} does not match the store's listing: delete it, and compute the neighbours again "
                f"with `ccscale embed --neighbours {self.k}`"
            ) from None
        self._firsts = np.cumsum(sizes) - sizes
        own = np.where(opened, sizes, 0)
        self._own_firsts, self._opened = np.cumsum(own) - own, opened

    def take(self, rows: Int64) -> tuple[Int64, Float32]:
        """Return the neighbours (m, k) of some rows (m,), and their cosines; -1 for what is not opened."""
        in_store = self._moved(rows, self._own_firsts, self._firsts)
        found = np.empty((len(rows), self.k), np.int64)
        cosines = np.empty((len(rows), self.k), np.float32)
        batches = in_store // ROWS
        for batch in np.unique(batches).tolist():
            here = batches == batch
            found[here] = self._rows[batch][in_store[here] - batch * ROWS]
            cosines[here] = self._cosines[batch][in_store[here] - batch * ROWS]
        return self._moved(found, self._firsts, self._own_firsts), cosines

    def _moved(self, rows: Int64, from_: Int64, to: Int64) -> Int64:
        """Count rows from other firsts of files; -1 for one of a file that is not opened."""
        file = np.searchsorted(from_, np.maximum(rows, 0), side="right") - 1
        return np.where((rows >= 0) & self._opened[file], rows - from_[file] + to[file], -1)
