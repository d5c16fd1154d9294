"""How good clusters are: against labels, and without them. Pure functions of arrays.

Everything follows from the contingency table ``n_kc``: images of class c in cluster k.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Int64 = NDArray[np.int64]


def contingency(clusters: Int64, labels: Int64, k: int) -> Int64:
    """Count the images of each class in each cluster.

    Parameters
    ----------
    clusters, labels
        (N,), 0 or more.
    k
        Number of clusters, empty ones too.

    Returns
    -------
    ndarray
        (k, C), C being one more than the largest label.
    """
    classes = int(labels.max(initial=-1)) + 1
    return np.bincount(clusters * classes + labels, minlength=k * classes).reshape(k, classes)


def accuracy(table: Int64) -> float:
    """Return ACC: the share of images that are right after the best one-to-one matching of clusters and classes.

    Where there are more clusters than classes, or fewer, those without a partner are wrong (Kuhn 1955).
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def normalized_mutual_information(table: Int64) -> float:
    """Return NMI: mutual information over the arithmetic mean of both entropies; 1 where both are 0."""
    joint = table / table.sum()
    cluster, label = joint.sum(axis=1), joint.sum(axis=0)
    mean = (entropy(cluster) + entropy(label)) / 2
    if mean == 0:
        return 1.0
    return float(np.clip((entropy(cluster) + entropy(label) - entropy(joint.ravel())) / mean, 0, 1))


def adjusted_rand_index(table: Int64) -> float:
    """Return ARI (Hubert and Arabie 1985): agreement on pairs of images, 0 by chance, 1 at best."""
    together, in_clusters, in_classes, pairs = _pairs(table)
    expected = in_clusters * in_classes / pairs if pairs else 0.0
    best = (in_clusters + in_classes) / 2
    return 1.0 if best == expected else float((together - expected) / (best - expected))


def pairwise_f(table: Int64) -> float:
    """Return the F-measure over pairs: harmonic mean of precision and recall of 'these two belong together'."""
    together, in_clusters, in_classes, _ = _pairs(table)
    return float(2 * together / (in_clusters + in_classes)) if in_clusters + in_classes else 1.0


def entropy(shares: NDArray[np.float64]) -> float:
    """Return -Σ p log p in nats, with 0 log 0 = 0."""
    positive = shares[shares > 0]
    return abs(float((positive * np.log(positive)).sum()))  # each term is 0 or less; -0.0 is not for people


def _pairs(table: Int64) -> tuple[float, float, float, float]:
    """Count pairs of images: in one cell, in one cluster, in one class, in all."""

    def within(counts: NDArray[Any]) -> float:
        # Python's integers: squares of counts in the hundreds of millions do not fit into 64 bits when added up
        return float(sum(int(n) * (int(n) - 1) // 2 for n in counts[counts > 1]))

    total = within(np.array([table.sum()]))
    return within(table.ravel()), within(table.sum(axis=1)), within(table.sum(axis=0)), total


def summarize(
    clusters: Int64,
    confidence: NDArray[np.floating[Any]],
    labels: Int64,
    k: int,
    information: float | None = None,
) -> dict[str, Any]:
    """Return all figures of a set of assignments.

    Parameters
    ----------
    clusters
        (N,) int64; -1 for an image without a cluster, as one that cannot be decoded: it is left out.
    confidence
        (N,): the soft assignment to the image's cluster.
    labels
        (N,) int64; -1 where a label is not known.
    k
        Number of clusters.
    information
        `SoftCounts.information` of the soft assignments, where it is known.

    Returns
    -------
    dict
        ``images``, ``clusters``, ``sizes`` (k numbers), ``empty``, ``largest`` (its share), ``entropy`` (of the
        sizes, in nats; log k at most), ``effective_clusters`` (its exponential), ``confidence`` (mean),
        ``information`` (in nats, if given), and ``labelled``. Where there are labels also ``acc``, ``nmi``, ``ari``
        and ``f``, over the labelled images.
    """
    assigned = clusters >= 0
    clusters, confidence, labels = clusters[assigned], confidence[assigned], labels[assigned]
    sizes = np.bincount(clusters, minlength=k)
    shares = sizes / max(len(clusters), 1)
    known = labels >= 0
    result: dict[str, Any] = {
        "images": len(clusters),
        "clusters": k,
        "sizes": sizes.tolist(),
        "empty": int((sizes == 0).sum()),
        "largest": float(shares.max()),
        "entropy": entropy(shares),
        "effective_clusters": float(np.exp(entropy(shares))),
        "confidence": float(confidence.mean()) if len(clusters) else 0.0,
        "labelled": int(known.sum()),
    }
    if information is not None:
        result["information"] = information
    if known.any():
        result |= scores(clusters[known], labels[known], k)
    return result


def scores(clusters: Int64, labels: Int64, k: int) -> dict[str, float]:
    """Return ``acc``, ``nmi``, ``ari`` and ``f`` of (N,) clusters against (N,) labels, all 0 or more."""
    table = contingency(clusters, labels, k)
    return {
        "acc": accuracy(table),
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
        "f": pairwise_f(table),
    }
