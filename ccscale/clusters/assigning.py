"""Assigns images: to a cluster of the network, one that was born later, or none. Pure, row by row.

The network assigns an image to one of its clusters; a later cluster takes it if its centre is nearer than that
cluster's by `MARGIN`. An image that lies farther from its centre than `FAR` of the run's own images is left
unassigned. In an update, so is one that lies where there were none before (`new_images.py`): nearer to a group of
new images than to its cluster and not mainly among known images, or among new images only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.clusters.initial_state import FAR
from ccscale.clusters.new_images import NewImages
from ccscale.clusters.state import State, distance_rank, nearest_centre
from ccscale.evaluate.reject import TOO_FAR

NO_NUMBERS = "its features are no finite numbers"
NEW = "where there were none before"
NEW_GROUP = "where there were none before, with others"


@dataclass(frozen=True)
class AssignedImages:
    """The assignments of n images.

    Attributes
    ----------
    ids
        (n,) int64: their cluster, or -1.
    confidence
        (n,) float32: that of the network; for a cluster that was added later, the fraction of its images that lie
        farther from its centre.
    reasons
        n: why an image has no cluster; None for those that have one.
    distances
        (n,) float32: 1 − the cosine with the nearest centre.
    ranks
        (n,) float64: the share of the cluster's own images that lie nearer to that centre.
    groups
        (n,) int64: the group of new images that an image is in, or -1.
    """

    ids: Int64
    confidence: Float32
    reasons: list[str | None]
    distances: Float32
    ranks: NDArray[np.float64]
    groups: Int64


def assign_images(
    state: State,
    features: Float32,
    heads: Int64,
    confidence: Float32,
    refs: Int64 | None = None,
    new_images: NewImages | None = None,
) -> AssignedImages:
    """Assign images, each independently of the others.

    Parameters
    ----------
    state
        The clusters.
    features
        (n, D), as the backbone gives them.
    heads, confidence
        (n,): the network's answers.
    refs, new_images
        (n,): the refs of the images, and the `NewImages` of their update.
    """
    rows = state.space(features)
    which, far = nearest_centre(rows, state, heads)
    ranks = np.where(which >= 0, distance_rank(far, state.distances[which]), 1.0)
    reasons = np.full(len(rows), None, object)
    reasons[ranks > FAR] = TOO_FAR
    groups = np.full(len(rows), -1)
    if new_images is not None:
        assert refs is not None
        new = new_images.count(rows, refs)
        if new_images.groups:
            cosines = rows @ new_images.centres.T
            nearer = (1 - cosines.max(axis=1) < far) & (new >= new_images.even[which])
            groups = np.where(nearer, cosines.argmax(axis=1), -1)
        reasons[new >= new_images.least[which]] = NEW
        reasons[groups >= 0] = NEW_GROUP
    no_numbers = ~np.isfinite(rows).all(axis=1)
    reasons[no_numbers], groups[no_numbers] = NO_NUMBERS, -1
    later = state.heads[which] == -1
    return AssignedImages(
        np.where([reason is None for reason in reasons], state.ids[which], -1),
        np.where(later, 1 - ranks, confidence).astype(np.float32),
        reasons.tolist(),
        far,
        ranks,
        groups,
    )
