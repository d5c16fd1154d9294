"""Clusters joined bottom-up, two at a time, where K was chosen too large. Pure functions of sums.

Two clusters i, j are the more alike,

    score = (similarity + confusion) / 2
    similarity = cos(c_i − c, c_j − c)              centroids c_i of the features, c the mean of all images
    confusion  = m_ij / √(m_ii m_jj),  m = Pᵀ P     how often the soft assignments take both for possible

the nearer their images lie and the more the cluster head mixes them up. Centroids and m of a joined cluster are
exactly those of its images, and the best pair of all is joined next. Clusters without images are joined first,
each to the one that it is confused with most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

MAX_CLUSTERS = 8192  # K x K numbers are held, in float64


@dataclass(frozen=True)
class Sums:
    """What the tree follows from; all add up over batches and ranks.

    Attributes
    ----------
    sizes
        (K,): images in each cluster.
    features
        (K, D): sums of their features.
    overlap
        (K, K): Pᵀ P over the soft assignments of all images.
    """

    sizes: Int64
    features: Float64
    overlap: Float64


@dataclass(frozen=True)
class Merge:
    """Two nodes that become one. The leaves are 0 to K − 1; merge i makes node K + i, as SciPy's linkage has it.

    Attributes
    ----------
    a, b
        The nodes, the one with the lowest cluster first.
    similarity, confusion
        Theirs.
    size
        Images in the new node.
    """

    a: int
    b: int
    similarity: float
    confusion: float
    size: int

    @property
    def score(self) -> float:
        """How alike the two are, −1/2 to 1."""
        return (self.similarity + self.confusion) / 2


def merge_all(sums: Sums) -> list[Merge]:
    """Join K clusters to one; return the K − 1 merges in their order."""
    k = len(sums.sizes)
    mean = sums.features.sum(axis=0) / max(int(sums.sizes.sum()), 1)
    sizes, overlap = sums.sizes.copy(), sums.overlap.copy()
    centred = sums.features - sizes[:, None] * mean  # sizes times (centroid − mean): the same direction
    nodes = np.arange(k)
    active = np.ones(k, dtype=bool)

    def parts_of(i: int) -> tuple[Float64, Float64]:
        norms = np.linalg.norm(centred, axis=1)
        similarity = centred @ centred[i] / np.maximum(norms * norms[i], 1e-300)
        weights = np.diagonal(overlap)
        return similarity, overlap[i] / np.sqrt(np.maximum(weights * weights[i], 1e-300))

    score = np.stack([np.add(*parts_of(i)) / 2 for i in range(k)])
    np.fill_diagonal(score, -np.inf)
    best = score.argmax(axis=1)
    merges: list[Merge] = []
    for number in range(k - 1):
        empty = np.flatnonzero(active & (sizes == 0))
        at = score[np.arange(k), best]
        first = int(empty[0]) if len(empty) else int(np.where(active, at, -np.inf).argmax())
        if len(empty):  # by its confusion: it has no centroid
            other = int(np.where(active & (np.arange(k) != first), parts_of(first)[1], -np.inf).argmax())
        else:
            other = int(best[first])
        i, j = min(first, other), max(first, other)
        similarity, confusion = (float(values[j]) for values in parts_of(i))
        sizes[i] += sizes[j]
        merges.append(Merge(int(nodes[i]), int(nodes[j]), similarity, confusion, int(sizes[i])))
        centred[i] += centred[j]
        overlap[i] += overlap[j]
        overlap[:, i] += overlap[:, j]
        nodes[i], active[j] = k + number, False
        row = np.where(active, np.add(*parts_of(i)) / 2, -np.inf)
        row[i] = -np.inf
        score[i], score[:, i] = row, row
        score[j], score[:, j] = -np.inf, -np.inf
        stale = np.flatnonzero(active & ((best == i) | (best == j)))
        best[stale] = score[stale].argmax(axis=1)
        best[i] = row.argmax()
        closer = active & (row > score[np.arange(k), best])
        best[closer] = i
    return merges


def cut(merges: Sequence[Merge], k: int) -> Int64:
    """Return the group of each cluster after as many merges as leave k groups.

    Returns
    -------
    ndarray
        (K,) int64, 0 to k − 1, counted in the order of the lowest cluster of each.
    """
    leaves = len(merges) + 1
    above = np.arange(leaves + len(merges))
    for number, merge in enumerate(merges[: leaves - k]):
        above[merge.a] = above[merge.b] = leaves + number
    for node in range(len(above) - 1, -1, -1):  # a node's parent has a higher number
        above[node] = above[above[node]]
    roots, first = np.unique(above[:leaves], return_index=True)
    names = np.empty(len(above), dtype=np.int64)
    names[roots[np.argsort(first)]] = np.arange(len(roots))
    return names[above[:leaves]]


def cuts(used: int, most: int = 64) -> list[int]:
    """Return the numbers of groups at which a tree is looked at, falling from the clusters that have images to 2.

    All of them up to `most`; of more, all up to half of it, and further apart above.
    """
    half = most // 2
    if used <= most:
        chosen = set(range(2, used + 1))
    else:
        chosen = set(range(2, half + 1)) | set(
            np.geomspace(half, used, half + 1).round().astype(int).tolist()
        )
    return sorted(chosen, reverse=True)
