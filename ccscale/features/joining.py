"""Merges clusters of k-means, for data with clusters of unequal size, where k-means splits the large ones.

Average linkage: repeatedly, the two clusters whose images have the largest mean cosine are merged. For vectors of
length 1 that mean is the product of the clusters' mean vectors, so only these are needed.
"""

import numpy as np

from ccscale.array_types import Int64
from ccscale.features.kmeans import Means


def join_clusters(means: Means, clusters: int) -> Int64:
    """Return the cluster that each centre of spherical k-means belongs to.

    Returns
    -------
    numpy.ndarray
        (centres,) int64, numbered by the first centre of each.
    """
    count = len(means.centres)
    sizes = np.bincount(means.clusters, minlength=count).astype(np.float64)
    squares = np.bincount(means.clusters, np.square(means.distances, dtype=np.float64), count)
    # A centre has length 1; the mean of its vectors lies in its direction and is shorter, as they lie apart.
    lengths = 1 - squares / (2 * np.maximum(sizes, 1))
    middles = means.centres * lengths[:, None]
    alike = middles @ middles.T
    np.fill_diagonal(alike, -np.inf)
    joined = np.arange(count)
    for _ in range(count - clusters):
        i, j = sorted(divmod(int(alike.argmax()), count))
        alike[i] = np.average(alike[[i, j]], axis=0, weights=np.maximum(sizes[[i, j]], 1))
        alike[:, i] = alike[i]
        alike[i, i] = alike[j] = alike[:, j] = -np.inf
        sizes[i] += sizes[j]
        joined[joined == j] = i
    return np.unique(joined, return_inverse=True)[1]
