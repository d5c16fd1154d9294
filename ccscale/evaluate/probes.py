"""What the features alone are worth: k-means beside the cluster head (paper, Table 4)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def k_means(features: NDArray[Any], k: int, seed: int = 0) -> NDArray[np.int64]:
    """Cluster (N, D) features by k-means; return (N,) clusters. The best of ten starts by inertia is taken."""
    from sklearn.cluster import KMeans

    return KMeans(n_clusters=k, n_init=10, random_state=seed).fit_predict(features).astype(np.int64)
