"""Detects images that are too far from those of a run, or ambiguous between clusters. Pure functions.

An image's distance is 1 − the cosine of its features with those of its k-th nearest neighbour among a sample of the
run's own images (Sun et al., ICML 2022: no label, no assumption about how features are spread); its doubt is
1 − confidence. Both are compared with those of the run's own images, each without itself among the neighbours: the
share of these that lie strictly below is the image's rank in distance, and in doubt.

    rank = max(rank in distance, rank in doubt)

An image gets a cluster if its rank is at most the COVERAGE quantile of those of the run's own images. So this
fraction of images like the run's own gets a cluster; the others are reported as too far or ambiguous. (Among the
run's own images the fraction is slightly larger: each image of the sample is its own neighbour.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Float64
from ccscale.features.vectors import unit_rows

NEIGHBOUR = 3  # k; a single one may be a copy
SAMPLE, OWN = 4_096, 10_000  # at most: images whose features are kept; images whose distances are
GRID = 1_000  # quantiles that are kept
TILE = 1_024  # rows of similarities that are held at a time


@dataclass(frozen=True)
class RejectionModel:
    """Ranks images by distance and ambiguity, compared with a run's own images.

    Attributes
    ----------
    sample
        (m, D) float16: features of some of the run's images, of length 1.
    distances, doubts, ranks
        (`GRID` + 1,) float64, rising: quantiles of these of the run's own images.
    """

    sample: NDArray[np.float16]
    distances: Float64
    doubts: Float64
    ranks: Float64

    @staticmethod
    def choose(images: int, seed: int) -> NDArray[np.int64]:
        """Return which of a run's images to fit on, in random order."""
        return np.random.default_rng(seed).permutation(images)[:OWN]

    @classmethod
    def fit(cls, features: Float32, confidence: Float32) -> "RejectionModel":
        """Fit to features (n, D) and confidences (n,) of two or more of a run's own images, in random order."""
        features = unit_rows(features)
        sample = features[:SAMPLE].astype(np.float16)
        own = np.arange(len(features))
        distances = _distances(features, sample, np.where(own < len(sample), own, -1))
        grid = np.linspace(0, 1, GRID + 1)
        doubts = 1.0 - confidence
        far, doubtful = np.quantile(distances, grid), np.quantile(doubts, grid)
        ranks = np.maximum(_rank(distances, far), _rank(doubts, doubtful))
        return cls(sample, far, doubtful, np.quantile(ranks, grid, method="higher"))

    def rank(self, features: Float32, confidence: Float32) -> tuple[Float64, Float64]:
        """Return the ranks in distance and in doubt of images, (n,) each in [0, 1], by (n, D) features."""
        distances = _distances(unit_rows(features), self.sample)
        return _rank(distances, self.distances), _rank(1.0 - confidence, self.doubts)

    def limit(self, coverage: float) -> float:
        """Return the rank up to which that fraction of the run's own images gets a cluster."""
        return float(self.ranks[np.ceil(coverage * GRID - 1e-9).astype(int)])


def _rank(values: NDArray[np.floating], quantiles: Float64) -> Float64:
    """Return the share of quantiles strictly below each value."""
    return np.searchsorted(quantiles, values, side="left") / len(quantiles)


def _distances(
    features: Float32, sample: NDArray[np.float16], own: NDArray[np.int64] | None = None
) -> Float64:
    """Return the distance of each unit feature to its k-th neighbour, excluding its own row (`own`, or -1)."""
    others, found = sample.astype(np.float32), np.empty(len(features))
    k = min(NEIGHBOUR, len(others) - (own is not None))
    for start in range(0, len(features), TILE):
        rows = slice(start, start + TILE)
        cosines = features[rows] @ others.T
        if own is not None:
            there = np.flatnonzero(own[rows] >= 0)
            cosines[there, own[rows][there]] = -np.inf
        found[rows] = 1 - np.partition(cosines, -k, axis=1)[:, -k]
    return found
