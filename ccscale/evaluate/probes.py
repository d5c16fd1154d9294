"""Probes of the features alone: k-means, to compare with the cluster head (paper, Table 4), and nearest
neighbours.

They run on one rank, on a subset, in every evaluation, and so take only seconds: k-means is scikit-learn's, in
mini-batches if there are many images. The k-means over a store (`features/kmeans.py`) runs on all ranks and all
rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.evaluate.feature_subset import FeatureSubset
from ccscale.evaluate.metrics import scores
from ccscale.features.vectors import unit_rows

Features = NDArray[Any]

FULL_WORK = 2**31  # rows x clusters x width up to which k-means looks at all rows in each of its passes
MINI_BATCH = 4096
NEIGHBOURS, TEMPERATURE = 20, 0.07
SCORES_BYTES = 2**28  # of similarities that are held at a time


def score_features(
    images: FeatureSubset, k: int, seed: int = 0, bank: FeatureSubset | None = None
) -> dict[str, Any]:
    """Score the features of labelled images; nothing where there are fewer of them than clusters.

    Parameters
    ----------
    images
        With the numbers that they have among all of the data set.
    k
        K.
    seed
        Of k-means.
    bank
        Labelled images among which the nearest neighbours are searched for; by default these themselves.

    Returns
    -------
    dict
        ``k_means`` and ``k_means_instance`` (scores), ``knn`` (``acc``), where an image has a neighbour, and
        ``probed``, the number of images.
    """
    if len(images.rows) < k:
        return {}
    found: dict[str, Any] = {
        name: scores(k_means(features, k, seed), images.labels, k)
        for name, features in (("k_means", images.backbone), ("k_means_instance", images.instance))
    }
    among: dict[str, Any] = {} if bank is None else {"images": images.rows, "bank_images": bank.rows}
    known = () if bank is None else (bank.backbone, bank.labels)
    acc = knn_accuracy(images.backbone, images.labels, *known, **among)
    return found | ({} if acc is None else {"knn": {"acc": acc}}) | {"probed": len(images.rows)}


def k_means(features: Features, k: int, seed: int = 0) -> Int64:
    """Cluster (N, D) features by k-means; return (N,) clusters.

    The best of ten starts by inertia is taken. Past `FULL_WORK` it is mini-batch k-means (Sculley 2010), the best
    of three starts.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(features) * k * features.shape[1] <= FULL_WORK:
        means = KMeans(n_clusters=k, n_init=10, random_state=seed)
    else:
        means = MiniBatchKMeans(n_clusters=k, n_init=3, batch_size=max(MINI_BATCH, 4 * k), random_state=seed)
    return means.fit_predict(features).astype(np.int64)


def knn_accuracy(
    features: Features,
    labels: Int64,
    bank: Features | None = None,
    bank_labels: Int64 | None = None,
    neighbours: int = NEIGHBOURS,
    *,
    images: Int64 | None = None,
    bank_images: Int64 | None = None,
) -> float | None:
    """Return the share of images whose class their nearest neighbours tell (Wu et al. 2018).

    Each of the nearest by cosine similarity s votes for its class with weight exp(s / 0.07). No image is its own
    neighbour, where it is in the bank, too.

    Parameters
    ----------
    features, labels
        (N, D), and (N,) 0 or more.
    bank, bank_labels
        (M, D), (M,): where the neighbours are searched for; by default among the images themselves.
    neighbours
        How many vote, at most.
    images, bank_images
        (N,) and (M,): numbers that tell which images are the same, in the bank each once. Without them images are
        the same where the bank is the images themselves.

    Returns
    -------
    float or None
        None where no image has a neighbour.
    """
    queries = unit_rows(features)
    if bank is None or bank_labels is None or bank is features:
        known, known_labels, own = (
            queries,
            labels if bank_labels is None else bank_labels,
            np.arange(len(queries)),
        )
    else:
        known, known_labels = unit_rows(bank), bank_labels
        own = _positions(images, bank_images, len(queries))
    count = min(neighbours, len(known))
    if not count:
        return None
    classes, known_labels = np.unique(known_labels, return_inverse=True)  # a label may be any number
    rows = max(1, SCORES_BYTES // (4 * len(known)))
    right = asked = 0
    for start in range(0, len(queries), rows):
        similar = queries[start : start + rows] @ known.T  # (rows, M)
        here = np.arange(len(similar))
        position = own[start : start + rows]
        similar[here[position >= 0], position[position >= 0]] = -np.inf
        nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(similar, nearest, axis=1) - 1) / TEMPERATURE)
        votes = np.zeros((len(similar), len(classes)))
        np.add.at(votes, (here[:, None], known_labels[nearest]), weights)
        has = votes.any(axis=1)
        asked += int(has.sum())
        right += int((classes[votes.argmax(axis=1)] == labels[start : start + rows])[has].sum())
    return right / asked if asked else None


def _positions(images: Int64 | None, bank: Int64 | None, count: int) -> Int64:
    """Return the position of each image in the bank, -1 for one that is not there."""
    if images is None or bank is None or not len(bank):
        return np.full(count, -1)
    order = np.argsort(bank)
    found = order[np.minimum(np.searchsorted(bank, images, sorter=order), len(bank) - 1)]
    return np.where(bank[found] == images, found, -1)
