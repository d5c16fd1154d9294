"""Matches clusters with classes: one-to-one (Hungarian, Kuhn 1955) or many-to-one (the most common class).

One-to-one matching gives what the literature calls ACC: no two clusters share a class, and if there are more
clusters than classes, or fewer, those without a partner are wrong. In many-to-one matching any number of clusters
may share a class, and the fraction of right images is the purity; it rises with K, to 1 if each image is a
cluster.
"""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from ccscale.array_types import Int64
from ccscale.evaluate.contingency import Cells, Contingency

DENSE_CELLS = 2**25  # 256 MiB


def one_to_one(table: Contingency, dense_cells: int = DENSE_CELLS) -> Int64:
    """Match clusters and classes one-to-one so that as many images as possible are right.

    Parameters
    ----------
    table
        The counts.
    dense_cells
        Tables with more cells are matched without an array of all of them.

    Returns
    -------
    ndarray
        (k,) int64: the class of each cluster; -1 for one without a partner.
    """
    if table.k * table.classes <= dense_cells:
        return _match_dense(table.to_array())
    cells = table.cells()
    clusters, rows = np.unique(cells.clusters, return_inverse=True)
    classes, columns = np.unique(cells.classes, return_inverse=True)
    found = _match_sparse(Cells(rows, columns, cells.counts), (len(clusters), len(classes)))
    matched = np.full(table.k, -1, dtype=np.int64)
    matched[clusters] = np.where(found >= 0, classes[found], -1) if len(classes) else found
    return matched


def many_to_one(table: Contingency) -> Int64:
    """Return each cluster's most common class, (k,) int64: the first of ties; -1 for an empty cluster."""
    cells = table.cells()
    largest = np.zeros(table.k, dtype=np.int64)
    np.maximum.at(largest, cells.clusters, cells.counts)
    best = cells.counts == largest[cells.clusters]
    clusters, first = np.unique(cells.clusters[best], return_index=True)  # a cluster's classes rise
    found = np.full(table.k, -1, dtype=np.int64)
    found[clusters] = cells.classes[best][first]
    return found


def right(table: Contingency, classes: Int64) -> int:
    """Count the images that are right where each cluster stands for the class in (k,) `classes` (-1: none)."""
    cells = table.cells()
    return int(cells.counts[classes[cells.clusters] == cells.classes].sum())


def _match_dense(counts: Int64) -> Int64:
    # Here: it is a tenth of every rank's start, and training without labels never needs it.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts, maximize=True)
    found = np.full(len(counts), -1, dtype=np.int64)
    together = counts[rows, columns] > 0
    found[rows[together]] = columns[together]
    return found


def _match_sparse(cells: Cells, shape: tuple[int, int]) -> Int64:
    """Match over the cells alone: each row also has a column of its own, which means that it has no partner."""
    # Costs above 0, as an entry of 0 is none. All rows are matched, so a constant for all changes nothing.
    none = int(cells.counts.max(initial=0)) + 1
    cost = coo_matrix((none - cells.counts, (cells.clusters, cells.classes)), shape)
    alone = coo_matrix((np.full(shape[0], none), (np.arange(shape[0]),) * 2), (shape[0], shape[0]))
    rows, columns = min_weight_full_bipartite_matching(csr_matrix(hstack([cost, alone])))
    found = np.full(shape[0], -1, dtype=np.int64)
    partner = columns < shape[1]
    found[rows[partner]] = columns[partner]
    return found
