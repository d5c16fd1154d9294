"""The contingency table n_kc, images of class c in cluster k, counted in chunks.

All scores against labels follow from it. It accepts chunks of any size, so a hundred million assignments need not
be in memory: it holds an array of all cells if that is small, otherwise the non-empty cells (24 bytes each, and a
few times that while chunks are added).
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from ccscale.array_types import Int64

DENSE_CELLS = 2**24  # of a table up to this size chunks are counted in place, in an array (128 MiB)
PENDING = 2**16  # cells of chunks that wait to be added up, at least


class Cells(NamedTuple):
    """The cells that are not empty, by cluster and then by class: (n,) int64 each."""

    clusters: Int64
    classes: Int64
    counts: Int64


class Contingency:
    """Counts images by cluster and class."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.classes = 0
        """One more than the largest label so far."""
        self._dense = np.zeros((k, 0), dtype=np.int64)
        self._cells = Cells(*np.empty((3, 0), dtype=np.int64))
        self._pending: list[Cells] = []
        self._waiting = 0

    @classmethod
    def of(cls, clusters: Int64, labels: Int64, k: int) -> "Contingency":
        """Count (N,) images by their clusters, below k, and their labels, all 0 or more."""
        made = cls(k)
        made.add(clusters, labels)
        return made

    def add(self, clusters: Int64, labels: Int64) -> None:
        """Count (N,) images by their clusters, below k, and their labels, all 0 or more."""
        self.classes = max(self.classes, int(labels.max(initial=-1)) + 1)
        if self.k * self.classes > DENSE_CELLS:
            self.add_cells(Cells(clusters, labels, np.ones(len(labels), dtype=np.int64)))
            return
        if self._dense.shape[1] < self.classes:
            self._dense = np.pad(self._dense, ((0, 0), (0, self.classes - self._dense.shape[1])))
        np.add.at(self._dense.ravel(), clusters * self.classes + labels, 1)

    def add_cells(self, cells: Cells) -> None:
        """Count as many images as another table has; its k is at most this one's."""
        self.classes = max(self.classes, int(cells.classes.max(initial=-1)) + 1)
        self._pending.append(cells)
        self._waiting += len(cells.counts)
        # What is summed at once is as much as is there already, so each cell is moved rarely.
        if self._waiting >= max(PENDING, len(self._cells.counts)):
            self.cells()

    def cells(self) -> Cells:
        """Return all that was counted."""
        clusters, classes = np.nonzero(self._dense)
        in_place = Cells(clusters, classes, self._dense[clusters, classes])
        self._dense = np.zeros((self.k, 0), dtype=np.int64)
        if not self._waiting and not len(self._cells.counts):
            self._cells = in_place
        elif self._waiting or len(in_place.counts):
            self._pending.append(in_place)
            clusters, classes, counts = map(np.concatenate, zip(self._cells, *self._pending, strict=True))
            table = coo_array((counts, (clusters, classes)), (self.k, self.classes)).tocsr().tocoo()
            self._cells = Cells(table.row.astype(np.int64), table.col.astype(np.int64), table.data)
            self._pending, self._waiting = [], 0
        return self._cells

    def to_array(self) -> Int64:
        """Return the table as an array (k, C)."""
        cells = self.cells()
        table = np.zeros((self.k, self.classes), dtype=np.int64)
        table[cells.clusters, cells.classes] = cells.counts
        return table

    def grouped(self, groups: Int64) -> "Contingency":
        """Return the table of joined clusters: (k,) `groups` tells which each becomes a part of, -1 for none."""
        cells = self.cells()
        kept = groups[cells.clusters] >= 0
        made = Contingency(int(groups.max(initial=-1)) + 1)
        made.add_cells(Cells(groups[cells.clusters[kept]], cells.classes[kept], cells.counts[kept]))
        return made

    def largest(self, most: int) -> list[list[tuple[int, int]]]:
        """Return up to `most` (class, images) of each cluster: the most images first, then the lower class."""
        cells = self.cells()
        order = np.lexsort(
            (-cells.counts, cells.clusters)
        )  # which leaves the classes of equals in their order
        pairs = np.column_stack([cells.classes, cells.counts])[order]
        ends = np.cumsum(np.bincount(cells.clusters, minlength=self.k))
        rows = (row[:most].tolist() for row in np.split(pairs, ends[:-1]))
        return [[(label, images) for label, images in row] for row in rows]
