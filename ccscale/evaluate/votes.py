"""The vote of each criterion for a number of clusters, and the advice from all votes.

With the values f(K) of a criterion and f_0(K) on features without clusters, the excess f − f_0 counts. A
criterion sees clusters if the mean excess (of merging, up to its vote) is above `LEAST`; coding, if clusters
shorten the code by more than they do without structure. It votes for

    stability, silhouette, neighbours    the smallest K whose excess is at least `NEAR` of the largest
    coding                               the K of the largest value: the shortest code
    merging                              the K up to which pairs are less alike than without clusters, on the whole:
                                         where the sum of the excess over all K up to it is largest

The advice is the geometric mean of the votes, with the range from the lowest to the highest. There are clusters
if more than half of the criteria see some.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.evaluate.criteria import CRITERIA, Curves

NEAR = 0.95
LEAST = {"stability": 0.05, "silhouette": 0.01, "neighbours": 0.05, "merging": 0.025}
WIDE = 2.0  # times the lower end of a range, from where on it is called wide


@dataclass(frozen=True)
class Vote:
    """What a criterion says.

    Attributes
    ----------
    criterion
        One of `CRITERIA`.
    clusters
        Its K, also where it sees none.
    sees
        Whether there are clusters by this criterion.
    near
        The least and the largest K that are nearly as good.
    values, null
        Its value for each K that was tried, of the features and of such without clusters.
    """

    criterion: str
    clusters: int
    sees: bool
    near: tuple[int, int]
    values: tuple[float, ...]
    null: tuple[float, ...]


def vote(tried: Sequence[int], found: Curves, nulls: Sequence[Curves]) -> tuple[Vote, ...]:
    """Return the vote of each criterion."""
    return tuple(
        _vote(name, np.array(tried), found[name], np.array([null[name] for null in nulls]))
        for name in CRITERIA
    )


def _vote(
    name: str, tried: NDArray[np.int64], values: NDArray[np.float64], nulls: NDArray[np.float64]
) -> Vote:
    null = nulls.mean(axis=0)
    gain = excess = values - null
    if name == "coding":
        gain = values
        best = tried[gain.argmax()]
        sees = bool(values.max() > max(0.0, float(nulls.max())))
    elif name == "merging":
        gain = np.cumsum(excess * np.diff(tried, prepend=tried[0] - 1))
        best = tried[gain.argmax()]
        sees = bool(excess[tried <= best].mean() > LEAST[name])
    else:
        best = tried[_near(gain)][0]
        sees = bool(excess.mean() > LEAST[name])
    near = tried[_near(gain)]
    return Vote(
        name, int(best), sees, (int(near[0]), int(near[-1])), tuple(values.tolist()), tuple(null.tolist())
    )


def _near(gain: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a gain is nearly as large as at best; at the best alone if there is none."""
    return (gain >= NEAR * gain.max()) if gain.max() > 0 else gain == gain.max()


def centre(votes: Sequence[Vote]) -> int:
    """Return the geometric mean of votes."""
    return round(math.exp(np.mean([math.log(vote.clusters) for vote in votes])))
