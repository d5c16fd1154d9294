"""How good clusters are: against labels, and without them. Pure functions of counts.

With the contingency table n_kc, its sums a_k over classes and b_c over clusters, N images:

    ACC     Σ_k n_{k,m(k)} / N for the best one-to-one matching m       (many-to-one: purity)
    NMI     (H(a) + H(b) − H(n)) / ((H(a) + H(b)) / 2),   H(n) = −Σ n/N log n/N
    ARI     (S − E) / ((A + B) / 2 − E),   S, A, B = pairs within n_kc, a_k, b_c;   E = A B / pairs
    F       2 S / (A + B)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.matching import many_to_one, one_to_one, right

_HALF = 20  # bits of the lower part of a count, for exact sums of squares


def accuracy(table: Contingency) -> float:
    """Return ACC: the share of images that are right after the best one-to-one matching of clusters and classes."""
    return right(table, one_to_one(table)) / int(table.cells().counts.sum())


def purity(table: Contingency) -> float:
    """Return the share of images that are of their cluster's most common class: ACC with many-to-one matching."""
    return right(table, many_to_one(table)) / int(table.cells().counts.sum())


def normalized_mutual_information(table: Contingency) -> float:
    """Return NMI: mutual information over the arithmetic mean of both entropies; 1 where both are 0."""
    cells = table.cells()
    total = cells.counts.sum()
    cluster, label = (entropy(counts / total) for counts in _sums(table))
    mean = (cluster + label) / 2
    if mean == 0:
        return 1.0
    return float(np.clip((cluster + label - entropy(cells.counts / total)) / mean, 0, 1))


def adjusted_rand_index(table: Contingency) -> float:
    """Return ARI (Hubert and Arabie 1985): agreement on pairs of images, 0 by chance, 1 at best."""
    together, in_clusters, in_classes, pairs = _pairs(table)
    # Multiplied by the number of pairs, so that these are whole numbers and only the division rounds.
    best = (in_clusters + in_classes) * pairs - 2 * in_clusters * in_classes
    return 2 * (together * pairs - in_clusters * in_classes) / best if best else 1.0


def pairwise_f(table: Contingency) -> float:
    """Return the F-measure over pairs: harmonic mean of precision and recall of 'these two belong together'."""
    together, in_clusters, in_classes, _ = _pairs(table)
    return 2 * together / (in_clusters + in_classes) if in_clusters + in_classes else 1.0


def entropy(shares: NDArray[np.float64]) -> float:
    """Return -Σ p log p in nats, with 0 log 0 = 0."""
    positive = shares[shares > 0]
    return abs(float((positive * np.log(positive)).sum()))  # each term is 0 or less; -0.0 is not for people


def score_table(table: Contingency) -> dict[str, float]:
    """Return ``acc``, ``purity``, ``nmi``, ``ari`` and ``f`` of a table that is not empty."""
    return {
        "acc": accuracy(table),
        "purity": purity(table),
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
        "f": pairwise_f(table),
    }


def scores(clusters: Int64, labels: Int64, k: int) -> dict[str, float]:
    """Return the figures of `score_table` of (N,) clusters, below k, against (N,) labels, all 0 or more."""
    return score_table(Contingency.of(clusters, labels, k))


def use(sizes: Int64) -> dict[str, Any]:
    """Return how evenly the clusters of (k,) sizes are used.

    Returns
    -------
    dict
        ``images``, ``clusters``, ``sizes``, ``empty``, ``largest`` (its share), ``entropy`` (of the sizes, in nats;
        log k at most) and ``effective_clusters`` (its exponential).
    """
    images = int(sizes.sum())
    shares = sizes / max(images, 1)
    return {
        "images": images,
        "clusters": len(sizes),
        "sizes": sizes.tolist(),
        "empty": int((sizes == 0).sum()),
        "largest": float(shares.max()),
        "entropy": entropy(shares),
        "effective_clusters": float(np.exp(entropy(shares))),
    }


def _sums(table: Contingency) -> tuple[Int64, Int64]:
    """Return the sizes of clusters and of classes; those that do not occur may be left out."""
    clusters, classes, counts = table.cells()

    def sums(of: Int64, size: int) -> Int64:
        if size > len(of):  # a label may be any number
            _, of = np.unique(of, return_inverse=True)
            size = int(of.max(initial=-1)) + 1
        found = np.zeros(size, dtype=np.int64)
        np.add.at(found, of, counts)
        return found

    return sums(clusters, table.k), sums(classes, table.classes)


def _pairs(table: Contingency) -> tuple[int, int, int, int]:
    """Count pairs of images, exactly: in one cell, in one cluster, in one class, in all."""
    counts = table.cells().counts
    total = int(counts.sum())
    clusters, classes = _sums(table)
    return _within(counts), _within(clusters), _within(classes), total * (total - 1) // 2


def _within(counts: Int64) -> int:
    """Return Σ n (n − 1) / 2.

    Squares of hundreds of millions do not fit into 64 bits when added up: n = 2²⁰ a + b is squared part by part,
    whose sums do, for fewer than 2⁴³ images.
    """
    high, low = counts >> _HALF, counts & (2**_HALF - 1)
    squares = (int(high @ high) << 2 * _HALF) + (int(high @ low) << _HALF + 1) + int(low @ low)
    return (squares - int(counts.sum())) // 2
