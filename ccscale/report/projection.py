"""Projects features onto a plane: PCA, then t-SNE of landmarks; other images are placed next to their neighbours.

Each feature is scaled to length 1, all are brought to 50 dimensions by PCA, and `LANDMARKS` of them to two by
t-SNE (van der Maaten and Hinton 2008). Every other image lies at the mean of its nearest landmarks,
weighted by the inverse of the squared distance. The seed is fixed, and one thread computes, since the order of sums
in several would change the picture from run to run.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.features.vectors import unit_rows
from ccscale.progress import say

DIMENSIONS = 50
LANDMARKS = 3000
PERPLEXITY = 30
NEIGHBOURS = 5
CHUNK = 8192


@dataclass(frozen=True)
class Plane:
    """Coordinates (n, 2) in [0, 1], float32, and how they were found, for people."""

    coordinates: NDArray[np.float32]
    method: str


def project(features: NDArray[Any], landmarks: int = LANDMARKS) -> Plane | None:
    """Lay (n, D) features on a plane; None where that makes no sense: under 5 images, or all features equal."""
    if len(features) < 5:
        return None
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rows = unit_rows(features)
    count = len(rows)
    if not np.isfinite(rows).all() or float(rows.var(axis=0, dtype=np.float64).sum()) < 1e-12:
        return None
    if count > landmarks:
        say(f"map: t-SNE of {landmarks:,} images, {count - landmarks:,} more placed next to them")
    with threadpool_limits(1):
        pca = PCA(min(DIMENSIONS, *rows.shape), random_state=0)
        reduced = pca.fit_transform(rows)
        chosen = np.arange(count)
        if count > landmarks:
            chosen = np.sort(np.random.default_rng(0).choice(count, landmarks, replace=False))
        perplexity = min(PERPLEXITY, (len(chosen) - 1) / 3)
        tsne = TSNE(init="pca" if reduced.shape[1] > 1 else "random", perplexity=perplexity, random_state=0)
        coordinates = np.empty((count, 2), dtype=np.float32)
        coordinates[chosen] = tsne.fit_transform(reduced[chosen])
        rest = np.setdiff1d(np.arange(count), chosen)
        if len(rest):
            coordinates[rest] = _beside(reduced[rest], reduced[chosen], coordinates[chosen])
    method = (
        f"The backbone's features of {count:,} images, each scaled to length 1, brought to {reduced.shape[1]} "
        f"dimensions by PCA ({pca.explained_variance_ratio_.sum():.0%} of their variance) and to two by t-SNE "
        f"(perplexity {perplexity:.0f}, seed 0)"
    )
    if len(rest):
        method += (
            f" on {len(chosen):,} of them drawn at random; each other image lies at the mean of its {NEIGHBOURS} "
            "nearest of these, weighted by the inverse squared distance"
        )
    return Plane(_fit(coordinates), f"{method}. Near is alike; distances between far groups mean little.")


def _beside(
    rows: NDArray[np.float32], landmarks: NDArray[np.float32], coordinates: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Lay rows (m, d) by their nearest landmarks (l, d), which lie at `coordinates` (l, 2)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(landmarks)), algorithm="brute").fit(landmarks)
    result = np.empty((len(rows), 2), dtype=np.float32)
    for start in range(0, len(rows), CHUNK):
        distances, near = search.kneighbors(rows[start : start + CHUNK])
        weights = 1 / (distances**2 + 1e-9)
        weights /= weights.sum(axis=1, keepdims=True)
        result[start : start + CHUNK] = (weights[:, :, None] * coordinates[near]).sum(axis=1)
    return result


def _fit(coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift and scale coordinates into the unit square, both axes by the same factor."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    return ((coordinates - (low + high) / 2) / side + 0.5).clip(0, 1).astype(np.float32)
