"""Merges clusters bottom-up, two at a time, if K was chosen too large. Pure functions of sums.

Two clusters i, j are the more similar,

    score = (similarity + confusion) / 2
    similarity = cos(c_i − c, c_j − c)              centroids c_i of the features, c the mean of all images
    confusion  = m_ij / √(m_ii m_jj),  m = Pᵀ P     how often the soft assignments take both for possible

the nearer their images lie and the more the cluster head confuses them. Centroids and m of a merged cluster are
exactly those of its images, and the best pair of all is merged next. Clusters without images are merged first,
each with the one that it is confused with most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ccscale.array_types import Float64, Int64

MAX_CLUSTERS = 20_480  # two arrays of K x K numbers are held, in float64: 6.7 GB
CUTS = 64  # at which a tree is examined, about
SMALL = 64  # nodes that are not worth being moved
CANCELLED = 1e-3  # share of the lengths of two vectors under which their sum is no longer exact enough
TINY = 1e-300


@dataclass(frozen=True)
class LinkageSums:
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


def link(sums: LinkageSums) -> list[Merge]:
    """Join K clusters to one; return the K − 1 merges in their order.

    Of pairs that are equally alike that is joined whose clusters come first. The sums are used up: two arrays of
    K x K numbers are all that is held, and they shrink while clusters are joined.
    """
    nodes = _Nodes(sums)
    empty = np.flatnonzero(nodes.sizes == 0).tolist()
    nearest = _Nearest(nodes)
    merges: list[Merge] = []
    k = len(sums.sizes)
    for number in range(k - 1):
        if empty:  # by its confusion: it has no centroid
            first = empty[0]
            others = np.where(nodes.active, nodes.confusion(first), -np.inf)
            others[first] = -np.inf
            other = int(others.argmax())
        else:
            first, other = nearest.pair()
        i, j = min(first, other), max(first, other)
        merges.append(nodes.merge(i, j))
        nodes.join(i, j, k + number)
        if empty:
            empty = [node for node in empty if node not in (i, j) or (node == i and nodes.sizes[i] == 0)]
        nearest.joined(i, j)
        if not empty and len(nodes.active) > SMALL and 2 * (k - 1 - number) <= len(nodes.active):
            nearest.keep(nodes.compact())
    return merges


class _Nodes:
    """The nodes that are left, in the order of their lowest clusters, and how alike they are."""

    def __init__(self, sums: LinkageSums) -> None:
        mean = sums.features.sum(axis=0) / max(int(sums.sizes.sum()), 1)
        self.sizes = sums.sizes.copy()
        self.names = np.arange(len(sums.sizes))
        self.active = np.ones(len(sums.sizes), dtype=bool)
        # Sizes times (centroid − mean): the same directions, and they add up.
        self._centred = sums.features - self.sizes[:, None] * mean
        self._norms = np.linalg.norm(self._centred, axis=1)
        self._dots = self._centred @ self._centred.T
        self._overlap = sums.overlap
        self._weights = np.diagonal(sums.overlap).copy()

    def similarity(self, i: int) -> Float64:
        """Return the similarity of a node and each."""
        return self._dots[i] / np.maximum(self._norms * self._norms[i], TINY)

    def confusion(self, i: int) -> Float64:
        """Return the confusion of a node with each."""
        return self._overlap[i] / np.sqrt(np.maximum(self._weights * self._weights[i], TINY))

    def scores(self, i: int) -> Float64:
        """Return how alike a node is to each other that is left; −∞ for the rest."""
        scores = np.where(self.active, (self.similarity(i) + self.confusion(i)) / 2, -np.inf)
        scores[i] = -np.inf
        return scores

    def merge(self, i: int, j: int) -> Merge:
        """Return what joining two nodes is."""
        similarity, confusion = float(self.similarity(i)[j]), float(self.confusion(i)[j])
        size = int(self.sizes[i] + self.sizes[j])
        return Merge(int(self.names[i]), int(self.names[j]), similarity, confusion, size)

    def join(self, i: int, j: int, name: int) -> None:
        """Make node i of both, under a name; j is no more."""
        before = self._norms[i] + self._norms[j]
        self.sizes[i] += self.sizes[j]
        self.names[i], self.active[j] = name, False
        self._centred[i] += self._centred[j]
        self._norms[i] = np.linalg.norm(self._centred[i : i + 1], axis=1)[0]
        for table in (self._dots, self._overlap):
            row = table[i] + table[j]
            row[i] += row[j]
            table[i], table[:, i] = row, row
        if self._norms[i] < CANCELLED * before:  # of the added products little but rounding would be left
            row = self._centred @ self._centred[i]
            self._dots[i], self._dots[:, i] = row, row
        self._weights[i] = self._overlap[i, i]

    def compact(self) -> Int64:
        """Leave out the nodes that are no more; return the places of those that are left."""
        kept = np.flatnonzero(self.active)
        square = np.ix_(kept, kept)
        self._dots = self._dots[square]
        self._overlap = self._overlap[square]
        self.sizes, self.names, self.active = self.sizes[kept], self.names[kept], self.active[kept]
        self._centred, self._norms, self._weights = (
            self._centred[kept],
            self._norms[kept],
            self._weights[kept],
        )
        return kept


class _Nearest:
    """Which other node each is most alike to: the first of ties.

    Of a node whose nearest was joined with another only a bound is kept at first, the score that it had: it is
    looked for anew when that bound is the highest score of all. So a joined node that is the nearest of many costs
    no more than another (Müllner 2011, the generic algorithm).
    """

    def __init__(self, nodes: _Nodes) -> None:
        count = len(nodes.sizes)
        self._nodes = nodes
        self._best, self._score = np.zeros(count, dtype=np.int64), np.full(count, -np.inf)
        self._is_bound = np.zeros(count, dtype=bool)
        for i in range(count):
            self._look(i)

    def pair(self) -> tuple[int, int]:
        """Return the two most alike nodes."""
        while self._is_bound[first := int(self._score.argmax())]:
            self._look(first)
        return first, int(self._best[first])

    def joined(self, i: int, j: int) -> None:
        """Take notice that node i is now what i and j were."""
        lost = ~self._is_bound & ((self._best == i) | (self._best == j))
        scores = self._nodes.scores(i)
        closer = scores > self._score
        first = (scores == self._score) & (self._best > i) & ~self._is_bound & ~lost & (scores > -np.inf)
        self._is_bound = (self._is_bound | lost) & ~closer
        self._best[closer | first] = i
        self._score[closer] = scores[closer]
        self._score[j], self._is_bound[j] = -np.inf, False
        self._set(i, scores)

    def keep(self, kept: Int64) -> None:
        """Leave out all nodes but some."""
        places = np.full(len(self._best), -1)
        places[kept] = np.arange(len(kept))
        self._best = places[self._best[kept]]
        self._score, self._is_bound = self._score[kept], self._is_bound[kept]

    def _look(self, i: int) -> None:
        self._set(i, self._nodes.scores(i))

    def _set(self, i: int, scores: Float64) -> None:
        self._best[i] = scores.argmax()
        self._score[i], self._is_bound[i] = scores[self._best[i]], False


def cut_tree(merges: Sequence[Merge], k: int) -> Int64:
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


def cut_sizes(used: int) -> list[int]:
    """Return the numbers of groups at which a tree is examined, falling from the clusters that have images to 2.

    All of them up to `CUTS`; of more, all up to half of it, and further apart above.
    """
    half = CUTS // 2
    if used <= CUTS:
        chosen = set(range(2, used + 1))
    else:
        chosen = set(range(2, half + 1)) | set(
            np.geomspace(half, used, half + 1).round().astype(int).tolist()
        )
    return sorted(chosen, reverse=True)
