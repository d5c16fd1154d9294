"""Tests whether two sets of images are separate, on an axis computed from held-out images. Pure functions.

The axis runs from the mean of one set to that of the other (in `Space`, where the covariance within clusters is
about the identity, this is Fisher's discriminant). Each half of the images is projected onto the axis of the
other half:

    t = 2 (x − (a + b) / 2) · (a − b) / |a − b|²        1 in the middle of one set, −1 of the other

*Separation* is the probability that an image of the first set lies above one of the second (the area under the
ROC curve): 1/2 for two samples of one distribution, whatever their size. There is a *valley* if there are fewer
images between the two means than at them; if a single mode was cut in two, there are more. Both come with a
p-value.
"""

from typing import NamedTuple

import numpy as np

from ccscale.array_types import Float32, Float64, Int64

WIDTH = 1 / 3  # of the places around −1, 0 and 1 whose images are counted, to each side


class Separation(NamedTuple):
    """The separation of two sets.

    Attributes
    ----------
    separation
        From 0 to 1; NaN if a set has fewer than two images.
    chance
        The probability of at least this separation for two samples of one distribution (Mann and Whitney).
    no_valley
        The probability of at most this number of images between them without a valley (binomial).
    """

    separation: float
    chance: float
    no_valley: float


def project(a: Float32, b: Float32) -> tuple[Float64, Float64]:
    """Return the positions of the images of two sets, (m, q) and (n, q), each half on the axis of the other."""
    found = np.empty(len(a)), np.empty(len(b))
    for half in (0, 1):
        first, second = (rows[1 - half :: 2].mean(axis=0, dtype=np.float64) for rows in (a, b))
        axis, middle = first - second, (first + second) / 2
        for place, rows in zip(found, (a, b), strict=True):
            place[half::2] = 2 * (rows[half::2] - middle) @ axis / max(float(axis @ axis), 1e-12)
    return found


def measure_separation(a: Float32, b: Float32) -> Separation:
    """Test how separate two sets of images, (m, q) and (n, q) in random order, are."""
    from scipy.stats import mannwhitneyu

    if min(len(a), len(b)) < 2:
        return Separation(float("nan"), 1.0, 1.0)
    first, second = project(a, b)
    test = mannwhitneyu(first, second, alternative="greater")
    return Separation(float(test.statistic) / (len(a) * len(b)), float(test.pvalue), valley_p_value(a, b))


def valley_p_value(a: Float32, b: Float32) -> float:
    """Return the probability of this few images between two sets, (m, q) and (n, q) in random order, without a
    valley.
    """
    from scipy.stats import binom

    if min(len(a), len(b)) < 2:
        return 1.0
    places = np.concatenate(project(a, b))
    low, between, high = (int((np.abs(places - place) < WIDTH).sum()) for place in (-1, 0, 1))
    peak = min(low, high)
    return float(binom.sf(peak - 1, peak + between, 0.5))


def halves(rows: Float32) -> tuple[Int64, Int64]:
    """Return the parts into which k-means with two centres divides rows (n, q), as numbers, the larger part
    first.
    """
    from sklearn.cluster import KMeans

    if len(rows) < 2 or (rows == rows[0]).all():
        return np.arange(len(rows)), np.empty(0, np.int64)
    sides = KMeans(2, n_init=3, random_state=0).fit(rows).labels_
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    parts = [order[sides[order] == side] for side in (0, 1)]
    first, second = sorted(parts, key=lambda part: (-len(part), part.min(initial=len(rows))))
    return first, second
