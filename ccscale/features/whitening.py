"""PCA whitening: y = (x − mean) V Λ^-1/2, with the q largest eigenvalues of the covariance.

K groups lie in K − 1 directions. If some groups are farther apart than others, k-means on these directions, all
scaled to unit variance, does not overlook the near ones.
"""

import numpy as np

from ccscale.array_types import Float64
from ccscale.features.vectors import BLOCK, Vectors

LEAST = 1e-6  # of the largest eigenvalue: one that is smaller counts as this


def whitening(vectors: Vectors, count: int) -> tuple[Float64, Float64]:
    """Return the mean (D,) and V Λ^-1/2 (D, q) of n vectors, the largest eigenvalue first."""
    total, squares = np.zeros(vectors.width), np.zeros((vectors.width, vectors.width))
    for start in range(0, len(vectors), BLOCK):
        block = vectors.span(start, start + BLOCK).numpy().astype(np.float64)
        total += block.sum(axis=0)
        squares += block.T @ block
    mean = total / len(vectors)
    values, axes = np.linalg.eigh(squares / len(vectors) - np.outer(mean, mean))
    values, axes = values[::-1][:count], axes[:, ::-1][:, :count]
    return mean, axes / np.sqrt(np.maximum(values, LEAST * values[0]))
