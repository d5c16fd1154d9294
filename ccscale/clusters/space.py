"""The space in which living clusters compare images: features whitened within clusters. Pure functions.

    u = x / |x|,   y = (u − m) V,   s = W y,   image = s / |s|

m and V are the mean and the leading principal components of the run's own images; the inverse of WᵀW is the mean
covariance of y within clusters, shrunk towards a multiple of the identity. Images are compared by the cosines of
the result. Differences within clusters count little in this space, and differences between clusters, also unseen
ones, count much (the directions of the Fisher criterion; unlike a classifier, it keeps those in which known
clusters do not differ).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.features.vectors import unit_rows

WIDTH = 256  # principal components
SHRINK = 0.1  # of the covariance, towards a multiple of the identity
BLOCK = 8_192  # rows that are worked on at a time


@dataclass(frozen=True)
class Space:
    """Maps features to the vectors that are compared.

    Attributes
    ----------
    mean
        (D,) float32.
    axes
        (D, q) float32.
    """

    mean: Float32
    axes: Float32

    @classmethod
    def of(cls, features: Float32, clusters: Int64, seed: int) -> "Space":
        """Fit it to images (n, D), two or more, and their clusters (n,)."""
        from sklearn.decomposition import PCA  # here: it is most of a short command's start

        unit = unit_rows(features)
        found = PCA(min(WIDTH, *unit.shape), svd_solver="randomized", random_state=seed).fit(unit)
        rows = found.transform(unit).astype(np.float64)
        numbers = np.unique(clusters, return_inverse=True)[1]
        rows -= _means(rows, numbers)[numbers]
        inside = rows.T @ rows / len(rows)
        width = len(inside)
        level = max(np.trace(inside) / width, 1e-12)
        inside = (1 - SHRINK) * inside + SHRINK * level * np.eye(width)
        whiten = np.linalg.inv(np.linalg.cholesky(inside)).T
        return cls(found.mean_.astype(np.float32), (found.components_.T @ whiten).astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> Float32:
        """Return images (n, q) of length 1 of features (n, D)."""
        found = np.empty((len(features), self.axes.shape[1]), np.float32)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            found[rows] = unit_rows((unit_rows(features[rows]) - self.mean) @ self.axes)
        return found


def _means(rows: NDArray[np.float64], numbers: Int64) -> NDArray[np.float64]:
    total = np.zeros((int(numbers.max(initial=-1)) + 1, rows.shape[1]))
    np.add.at(total, numbers, rows)
    return total / np.bincount(numbers)[:, None]
