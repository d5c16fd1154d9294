"""Projected features, and structureless features with the same mean and covariance but without clusters.

Criteria are compared with a null model: a single Gaussian with the mean and covariance of the features, its rows
scaled to length 1 as theirs are (as in SigClust and the gap statistic; Huang et al. 2015, Tibshirani et al.
2001). All are projected onto the leading principal components of the features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32
from ccscale.features.vectors import unit_rows

SPREAD = 256  # principal components in which features without clusters are drawn
WIDTH, FEWEST, ROWS_EACH = 32, 4, 32  # of them that are examined: at most, at least; rows that each takes


@dataclass(frozen=True)
class NullModel:
    """Rows of length 1 in their leading principal components, and what it takes to draw others like them.

    Attributes
    ----------
    rows
        (n, d): the components that are examined, `WIDTH` at most, fewer of few rows.
    """

    rows: Float32
    _mean: Float32  # of all components that are drawn, from the origin
    _deviations: Float32
    _rest: float  # of the squared length, that is in no component

    @classmethod
    def of(cls, features: NDArray[np.floating], seed: int = 0) -> "NullModel":
        """Project features (n, D), of any length."""
        from sklearn.decomposition import PCA

        unit = unit_rows(features)
        components = PCA(min(SPREAD, *unit.shape), random_state=seed).fit(unit)
        axes = components.components_.astype(np.float32)
        all_rows = unit @ axes.T
        mean = all_rows.mean(axis=0)
        rest = max(0.0, 1.0 - float(np.square(all_rows).sum(axis=1).mean()))
        width = min(WIDTH, max(FEWEST, len(unit) // ROWS_EACH))
        rows = np.ascontiguousarray((all_rows - mean)[:, :width])
        return cls(rows, mean, np.sqrt(components.explained_variance_).astype(np.float32), rest)

    def draw(self, seed: int) -> Float32:
        """Return as many rows (n, d) without clusters."""
        normal = np.random.default_rng(seed).standard_normal((len(self.rows), len(self._mean)), np.float32)
        rows = self._mean + normal * self._deviations
        length = np.sqrt(np.square(rows).sum(axis=1, keepdims=True) + self._rest)
        return np.ascontiguousarray((rows / np.maximum(length, 1e-12) - self._mean)[:, : self.rows.shape[1]])
