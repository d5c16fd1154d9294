"""Valleys within and between clusters, now and when the clusters were created. Pure functions.

Each cluster stores these when it is created (`State`), and a split or merge is proposed only if they have changed
since.
"""

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.clusters.groups import LEAST
from ccscale.clusters.reservoir import MOST
from ccscale.clusters.separation import halves, valley_p_value
from ccscale.clusters.state import NEAR
from ccscale.features.vectors import unit_rows


def rows_of(rows: Float32, ids: Int64, cluster: int) -> Float32:
    """Return some of the rows (m, q) of one cluster, out of (n, q) and (n,), in random order."""
    own = np.flatnonzero(ids == cluster)
    return rows[np.random.default_rng(len(own)).permutation(own)[:MOST]]


def inner_valley(rows: Float32) -> float:
    """Return the p-value of the valley between the halves of a cluster's rows (m, q)."""
    first, second = halves(rows)
    return valley_p_value(rows[first], rows[second]) if len(second) >= LEAST else 1.0


def neighbour_valleys(rows: Float32, ids: Int64, cluster: int) -> tuple[Int64, Float32]:
    """Return the nearest clusters of one, (`NEAR`,), or -1, and the p-values of the valleys between.

    Parameters
    ----------
    rows, ids
        (n, q), (n,): images of all clusters.
    cluster
        Which.
    """
    near, parted = np.full(NEAR, -1), np.ones(NEAR, np.float32)
    own = rows_of(rows, ids, cluster)
    clusters, numbers = np.unique(ids, return_inverse=True)
    if not len(own) or len(clusters) < 2:
        return near, parted
    total = np.zeros((len(clusters), rows.shape[1]), np.float32)
    np.add.at(total, numbers, rows)
    cosines = unit_rows(total) @ own.mean(axis=0)
    cosines[clusters == cluster] = -np.inf
    found = clusters[np.argsort(-cosines, kind="stable")[: min(NEAR, len(clusters) - 1)]]
    near[: len(found)] = found
    parted[: len(found)] = [valley_p_value(own, rows_of(rows, ids, other)) for other in found.tolist()]
    return near, parted


def measure_valleys(rows: Float32, ids: Int64, clusters: Int64) -> dict[str, NDArray[np.generic]]:
    """Return ``whole``, ``near`` and ``parted`` of some clusters, as `State` keeps them."""
    found = [neighbour_valleys(rows, ids, cluster) for cluster in clusters.tolist()]
    whole = [inner_valley(rows_of(rows, ids, cluster)) for cluster in clusters.tolist()]
    return {
        "whole": np.array(whole, np.float32),
        "near": np.array([near for near, _ in found], np.int64).reshape(-1, NEAR),
        "parted": np.array([parted for _, parted in found], np.float32).reshape(-1, NEAR),
    }
