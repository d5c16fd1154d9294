"""How many clusters to ask for, where nobody knows: a simple rule on features that are there, before any training.

The images are parted in two halves at random. k-means on each half makes K clusters, and both assign all images:
where K suits the images, the two agree (Ben-Hur et al. 2002; adjusted Rand index, mean over `PARTINGS` partings).
The advice is

    the largest K whose agreement is at least `NEAR` of the best one's

It is a rule of thumb, not a test. On EfficientNet-Lite0's features of photographs of 5, 6, 10, 10 and 16 classes
(2,500, 1,500, 2,500, 500 and 4,000 images) it said 6, 4, 13, 13 and 22; of blobs, their number or one more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.errors import InputError
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.evaluate.probes import unit_rows
from ccscale.features.store import Features
from ccscale.progress import Meter

NEAR, PARTINGS = 0.95, 3
TRIED = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 40, 50, 64)
EACH = 20  # images of a cluster that is tried, at least, over both halves
ROWS, WIDTH = 4_000, 32  # of what is looked at: images, and principal components of their features


@dataclass(frozen=True)
class Advice:
    """How many clusters there seem to be.

    Attributes
    ----------
    clusters
        K.
    agreement
        Of two halves, by the number of clusters that was tried; 1 at best, 0 by chance.
    """

    clusters: int
    agreement: dict[int, float]


def advise(features: Features, seed: int = 0, show: bool = False) -> Advice:
    """Return how many clusters there seem to be.

    Parameters
    ----------
    features
        A store; the images as they are count, not their random views.
    seed
        Of the halves, of k-means, and of which images are looked at where there are more than `ROWS`.
    show
        Whether to tell on standard error how far it is.

    Raises
    ------
    InputError
        If there are too few images.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import adjusted_rand_score

    good = np.flatnonzero(~features.bad)
    tried = [k for k in TRIED if k * EACH <= len(good)]
    if not tried:
        raise InputError(
            f"{features.folder} has {len(good)} images, too few to advise on a number of clusters: say how many "
            "with --clusters"
        )
    rows = unit_rows(features.take(good[choose_rows(len(good), seed, ROWS)]))
    rows = PCA(min(WIDTH, *rows.shape), random_state=seed).fit_transform(rows).astype(np.float32)
    orders = [np.random.default_rng((seed, parting)).permutation(len(rows)) for parting in range(PARTINGS)]

    def clusters(half: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        return KMeans(n_clusters=k, n_init=3, random_state=seed).fit(half).predict(rows)

    agreement = {}
    with Meter("looking for the number of clusters", len(tried), "numbers", show) as meter:
        for k in tried:
            halves = [(rows[order[::2]], rows[order[1::2]]) for order in orders]
            agreement[k] = float(
                np.mean([adjusted_rand_score(clusters(a, k), clusters(b, k)) for a, b in halves])
            )
            meter.advance()
    best = max(agreement.values())
    return Advice(max(k for k, found in agreement.items() if found >= NEAR * best), agreement)
