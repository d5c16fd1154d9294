"""How reliable confidences are, measured with labels. Pure functions.

ECE        Σ_b share_b |right_b − confidence_b|, over `BINS` bins of equal width (Naeini et al., AAAI 2015)
coverage   the fraction of images that are answered, the most confident first
accuracy   how many of these are right: of all images it is ACC; 1 − accuracy is the risk (El-Yaniv and Wiener 2010)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
COVERAGES = tuple(share / 20 for share in range(20, 1, -1))  # 1, .95, … .1

Float = NDArray[np.floating]
Right = NDArray[np.bool_]


def calibration_error(confidence: Float, right: Right, bins: int = BINS) -> float:
    """Return the expected calibration error of (n,) confidences in [0, 1]; 0 of no images."""
    columns = reliability_bins(confidence, right, bins)
    gaps = np.abs(np.subtract(columns["confidence"], columns["right"]))
    return float(gaps @ np.array(columns["share"])) if len(gaps) else 0.0


def reliability_bins(confidence: Float, right: Right, bins: int = BINS) -> dict[str, list[float]]:
    """Return what each bin holds that is not empty.

    Returns
    -------
    dict
        Columns: ``share`` of the images, their mean ``confidence``, the share that is ``right``.
    """
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    there = counts > 0
    return {
        "share": (counts[there] / max(len(places), 1)).tolist(),
        "confidence": (np.bincount(places, confidence, bins)[there] / counts[there]).tolist(),
        "right": (np.bincount(places, right, bins)[there] / counts[there]).tolist(),
    }


def accuracy_at_coverage(
    confidence: Float, right: Right, coverages: tuple[float, ...] = COVERAGES
) -> list[float]:
    """Return the accuracy on the most confident fraction of the images, for each coverage; ties in order."""
    order = np.argsort(-confidence, kind="stable")
    sums = np.cumsum(right[order])
    answered = [max(1, round(share * len(order))) for share in coverages]
    return [float(sums[n - 1] / n) for n in answered]


def reliability_scores(confidence: Float, calibrated: Float | None, right: Right) -> dict[str, Any]:
    """Return all figures of (n,) images, of which there is at least one; calibrated confidences may be unknown.

    Returns
    -------
    dict
        ``images``; ``ece`` of the confidences as they are and ``ece_calibrated``; ``coverage`` and ``accuracy``,
        the risk-coverage curve; ``bins``, columns of `reliability_bins` of the calibrated confidences.
    """
    return {
        "images": len(right),
        "ece": calibration_error(confidence, right),
        "coverage": list(COVERAGES),
        "accuracy": accuracy_at_coverage(confidence, right),
        "bins": reliability_bins(confidence if calibrated is None else calibrated, right),
        **({} if calibrated is None else {"ece_calibrated": calibration_error(calibrated, right)}),
    }
