"""Criteria for the number of clusters: how well K clusters fit the rows, for each K tried, without labels.

    stability    adjusted Rand index of k-means on two halves, both of which assign all rows (Ben-Hur et al. 2002);
                 the mean over `PARTINGS` partings
    silhouette   mean of (b − a) / max(a, b), a row's mean distances within its cluster and to the next one
                 (Rousseeuw 1987); of `LOOKED_AT` rows
    neighbours   share of a row's nearest `NEIGHBOURS` that are in its cluster, beyond chance (Cohen's kappa)
    coding       nats a row by which clusters shorten the code, L(1) − L(K), mean over the precisions ε (Ma et al.
                 2007, for clusters with means μ_j and covariances Σ_j, n_j of n rows, d wide):
                 L = Σ_j (n_j + d)/2 logdet(I + d/ε² Σ_j) + d/2 log(1 + |μ_j|²/ε²) − n_j log(n_j/n)
    merging      how little alike those two clusters are that come next, where many are joined bottom-up:
                 −score of the merge that leaves K − 1 (`linkage.py`)

Higher is better. The first three and the last mean nothing on their own, since few clusters are always more
stable than many: they are compared with those of features without clusters (`null_model.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.evaluate.linkage import LinkageSums, link
from ccscale.features.kappa import neighbour_kappa

Curves = dict[str, NDArray[np.float64]]

CRITERIA = ("stability", "silhouette", "neighbours", "coding", "merging")
PARTINGS, STARTS = 3, 2
LOOKED_AT, NEIGHBOURS = 1500, 10
PRECISIONS = np.geomspace(0.01, 0.6, 8)  # ε², in shares of the rows' variance: nothing tells which is right
ENOUGH = 10  # rows of a cluster, in the mean, that merging begins with


def measure(rows: Float32, tried: Sequence[int], seed: int, advance: Callable[[], None]) -> Curves:
    """Return each criterion's value for each number of clusters.

    Parameters
    ----------
    rows
        (n, d).
    tried
        K, rising, from 2 on.
    seed
        Of halves, of k-means, of which rows are examined.
    advance
        Called after each K.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    near = (
        NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(rows) - 1))
        .fit(rows)
        .kneighbors(return_distance=False)
    )
    generator = np.random.default_rng(seed)
    some = generator.permutation(len(rows))[:LOOKED_AT]
    orders = [generator.permutation(len(rows)) for _ in range(PARTINGS)]
    whole = _code_lengths(rows, np.zeros(len(rows), np.int64))
    found: dict[str, list[float]] = {name: [] for name in CRITERIA[:-1]}
    for k in tried:
        clusters = _k_means(rows, k, seed).labels_
        few = clusters[some]
        apart = 1 < len(np.unique(few)) < len(few)
        found["stability"].append(_stability(rows, orders, k, seed))
        found["silhouette"].append(float(silhouette_score(rows[some], few)) if apart else 0.0)
        found["neighbours"].append(neighbour_kappa(clusters, clusters[near]))
        found["coding"].append(float((whole - _code_lengths(rows, clusters)).mean()))
        advance()
    merging = _merging(rows, near, tried, seed)
    return {name: np.array(values) for name, values in found.items()} | {"merging": merging}


def _k_means(rows: Float32, k: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(n_clusters=k, n_init=STARTS, random_state=seed).fit(rows)


def _stability(rows: Float32, orders: Sequence[Int64], k: int, seed: int) -> float:
    from sklearn.metrics import adjusted_rand_score

    def assigned(half: Int64) -> Int64:
        return _k_means(rows[half], k, seed).predict(rows)

    return float(
        np.mean([adjusted_rand_score(assigned(order[::2]), assigned(order[1::2])) for order in orders])
    )


def _code_lengths(rows: Float32, clusters: Int64) -> NDArray[np.float64]:
    """Return L / n for each of the precisions."""
    n, d = rows.shape
    noise = PRECISIONS * max(float(rows.var(axis=0).sum()), 1e-12)
    total = np.zeros(len(noise))
    for cluster in np.unique(clusters):
        of_it = rows[clusters == cluster].astype(np.float64)
        mean = of_it.mean(axis=0)
        of_it -= mean
        spread = np.maximum(np.linalg.eigvalsh(of_it.T @ of_it / len(of_it)), 0)
        total += (len(of_it) + d) / 2 * np.log1p(d * spread / noise[:, None]).sum(axis=1)
        total += d / 2 * np.log1p(np.square(mean).sum() / noise) - len(of_it) * np.log(len(of_it) / n)
    return total / n


def _merging(rows: Float32, near: Int64, tried: Sequence[int], seed: int) -> NDArray[np.float64]:
    """Join many clusters bottom-up; those that a row and its neighbours are in are mixed up."""
    many = max(tried[-1], min(2 * tried[-1], len(rows) // ENOUGH))
    clusters = _k_means(rows, many, seed).labels_
    sums = np.zeros((many, rows.shape[1]))
    np.add.at(sums, clusters, rows)
    overlap = np.zeros((many, many))
    np.add.at(overlap, (np.repeat(clusters, near.shape[1]), clusters[near].ravel()), 1)
    merges = link(
        LinkageSums(np.bincount(clusters, minlength=many).astype(np.int64), sums, overlap + overlap.T)
    )
    return np.array([-merges[many - k].score for k in tried])
