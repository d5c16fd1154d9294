"""Calibration: maps confidence to the fraction of images with that confidence that are right. Pure functions.

A soft assignment of .9 is right far less often than nine times in ten. The map is monotonic, fitted by isotonic
regression (Zadrozny and Elkan, KDD 2002):

    without labels    on how often a second version of an image (`stability.py`) is in the cluster of the first
    with labels       on how often the cluster's name is the image's class; the pairs of versions are kept, with the
                      total weight of `PAIRS` labelled images

A single temperature for all logits is not enough: on clusters of photographs it leaves a calibration error of .1,
even with labels; this map leaves .07 without labels and .03 with three hundred.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float64

PAIRS = 50.0  # labelled images that all pairs weigh as much as: more of them would hide what few labels tell


@dataclass(frozen=True)
class Calibration:
    """The map, and what it was fitted by.

    Attributes
    ----------
    confidence, calibrated
        (m,) float64: its corners, both rising; between them it is straight, beyond them level.
    pairs, labels
        How many pairs of looks, and labelled images.
    """

    confidence: Float64
    calibrated: Float64
    pairs: int
    labels: int

    @classmethod
    def fit(
        cls,
        pairs: NDArray[np.float32],
        confidence: NDArray[np.floating] | None = None,
        right: NDArray[np.bool_] | None = None,
    ) -> "Calibration":
        """Fit the map.

        Parameters
        ----------
        pairs
            (2, n, K): the soft assignments of two looks at each of n images.
        confidence, right
            (l,): of labelled images, and whether each is right; none by default.

        Returns
        -------
        Calibration
            Where there is neither pair nor label, the one that changes nothing.
        """
        from sklearn.isotonic import IsotonicRegression

        looks, n = pairs.max(axis=2), pairs.shape[1]
        agreeing = pairs[0].argmax(axis=1) == pairs[1].argmax(axis=1)
        known = np.empty(0) if confidence is None else confidence
        told = np.empty(0) if right is None else right
        if not n + len(known):
            return cls(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0, 0)
        weight = (PAIRS if len(known) else 1.0) / max(2 * n, 1)
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            np.concatenate([looks.ravel(), known]).astype(np.float64),
            np.concatenate([np.tile(agreeing, 2), told]).astype(np.float64),
            sample_weight=np.concatenate([np.full(2 * n, weight), np.ones(len(known))]),
        )
        return cls(fitted.X_thresholds_, fitted.y_thresholds_, n, len(known))

    def __call__(self, confidence: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the calibrated confidence of images, (n,) float32, by their confidence, (n,)."""
        return np.interp(confidence, self.confidence, self.calibrated).astype(np.float32)
