"""Images get their cluster: the network's, one that was born later, or none. Pure, and row by row.

The network says which of its clusters an image is in; a cluster that came later takes it where its centre is
nearer than that cluster's. An image that lies farther from its centre than `FAR` of the run's own images is
left unassigned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.clusters.founding import FAR
from ccscale.clusters.state import State, nearest, rank
from ccscale.evaluate.reject import TOO_FAR

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What n images are told.

    Attributes
    ----------
    ids
        (n,) int64: their cluster, or -1.
    confidence
        (n,) float32: the network's; of a cluster that came later, the share of its images that lie farther from its
        centre.
    reasons
        n: why an image has no cluster; None for those that have one.
    distances
        (n,) float32: 1 − the cosine with the nearest centre.
    ranks
        (n,) float64: the share of the cluster's own images that lie nearer to that centre.
    """

    ids: Int64
    confidence: Float32
    reasons: list[str | None]
    distances: Float32
    ranks: NDArray[np.float64]


def assign(state: State, features: Float32, heads: Int64, confidence: Float32) -> Answers:
    """Assign images (n, D) with the network's answers (n,), (n,); each by itself."""
    rows = state.space(features)
    allowed = (state.heads == heads[:, None]) | (state.heads == -1)
    which, far = nearest(rows, state.centres, allowed)
    ranks = np.where(which >= 0, rank(far, state.distances[which]), 1.0)
    too_far = ranks > FAR
    later = state.heads[which] == -1
    return Answers(
        np.where(too_far, -1, state.ids[which]),
        np.where(later, 1 - ranks, confidence).astype(np.float32),
        [TOO_FAR if one else None for one in too_far],
        far,
        ranks,
    )
