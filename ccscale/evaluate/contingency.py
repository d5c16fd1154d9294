"""The contingency table n_kc, images of class c in cluster k, counted in chunks.

Everything that labels can tell about clusters follows from it. It takes chunks of any size, so that a hundred
million assignments need not be held: memory is that of the table as an array where k x C is small, else that of
the cells that are not empty (16 bytes each, and a few times that while chunks are merged).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

DENSE_CELLS = 2**25  # 256 MiB
PENDING = 2**20  # cells of chunks that wait to be merged, at least
CLASS_BITS = 32


class Cells(NamedTuple):
    """The cells that are not empty, by cluster and then by class: (n,) int64 each."""

    clusters: Int64
    classes: Int64
    counts: Int64


class Contingency:
    """Counts images by cluster and class.

    Parameters
    ----------
    k
        Number of clusters, empty ones too.
    dense_cells
        As many cells may be held as an array.
    """

    def __init__(self, k: int, dense_cells: int = DENSE_CELLS) -> None:
        self.k = k
        self.classes = 0
        """One more than the largest label so far."""
        self._limit = dense_cells
        self._dense: Int64 | None = np.zeros((k, 0), dtype=np.int64)
        self._codes, self._counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        self._pending: list[tuple[Int64, Int64]] = []
        self._waiting = 0

    @classmethod
    def from_array(cls, table: Int64) -> "Contingency":
        """Take a table (k, C)."""
        table = np.asarray(table, dtype=np.int64)
        made = cls(len(table))
        clusters, classes = np.nonzero(table)
        made.add_cells(Cells(clusters, classes, table[clusters, classes]))
        return made

    def add(self, clusters: Int64, labels: Int64) -> None:
        """Count (N,) images by their clusters, below k, and their labels, all 0 or more."""
        self._widen(int(labels.max(initial=-1)) + 1)
        if self._dense is not None:
            np.add.at(self._dense.ravel(), clusters * self._dense.shape[1] + labels, 1)
        else:
            self._put(*np.unique((clusters << CLASS_BITS) | labels, return_counts=True))

    def add_cells(self, cells: Cells) -> None:
        """Count as many images as another table has; its k is at most this one's."""
        self._widen(int(cells.classes.max(initial=-1)) + 1)
        if self._dense is not None:
            np.add.at(self._dense, (cells.clusters, cells.classes), cells.counts)
        else:
            self._put((cells.clusters << CLASS_BITS) | cells.classes, cells.counts)

    def cells(self) -> Cells:
        """Return all that was counted."""
        if self._dense is not None:
            clusters, classes = np.nonzero(self._dense)
            return Cells(clusters, classes, self._dense[clusters, classes])
        self._merge()
        return Cells(self._codes >> CLASS_BITS, self._codes & (2**CLASS_BITS - 1), self._counts)

    def to_array(self) -> Int64:
        """Return the table as an array (k, C), to be read only."""
        if self._dense is not None:
            view = self._dense.view()
            view.flags.writeable = False
            return view
        cells = self.cells()
        table = np.zeros((self.k, self.classes), dtype=np.int64)
        table[cells.clusters, cells.classes] = cells.counts
        return table

    def grouped(self, groups: Int64) -> "Contingency":
        """Return the table of joined clusters: (k,) `groups` tells which each becomes a part of, -1 for none."""
        cells = self.cells()
        kept = groups[cells.clusters] >= 0
        made = Contingency(int(groups.max(initial=-1)) + 1, self._limit)
        made.add_cells(Cells(groups[cells.clusters[kept]], cells.classes[kept], cells.counts[kept]))
        return made

    def _widen(self, classes: int) -> None:
        """Make room for labels below `classes`."""
        if classes <= self.classes:
            return
        self.classes = classes
        if self._dense is None:
            return
        if self.k * classes <= self._limit:
            wider = np.zeros((self.k, classes), dtype=np.int64)
            wider[:, : self._dense.shape[1]] = self._dense
            self._dense = wider
        else:
            cells, self._dense = self.cells(), None
            self._put((cells.clusters << CLASS_BITS) | cells.classes, cells.counts)

    def _put(self, codes: Int64, counts: Int64) -> None:
        """Keep cells for later: what is merged at once is as much as is there already, so each is moved rarely."""
        self._pending.append((codes, counts))
        self._waiting += len(codes)
        if self._waiting >= max(PENDING, len(self._codes)):
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        codes = np.concatenate([self._codes, *(codes for codes, _ in self._pending)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._pending)])
        self._pending, self._waiting = [], 0
        order = np.argsort(codes, kind="stable")
        codes, counts = codes[order], counts[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        self._codes = codes[first]
        self._counts = np.add.reduceat(counts, first) if len(first) else counts
