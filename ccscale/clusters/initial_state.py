"""The first version of living clusters, from a run's own images. Pure functions; labels are not used.

How far an image may lie from its cluster's centre is measured on held-out images: each half of the run's images
by space and centres of the other half. The stored space and centres are computed from all.
"""

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.clusters.reservoir import Pool, Reservoir, places
from ccscale.clusters.space import Space
from ccscale.clusters.state import GRID, State, no_margins
from ccscale.clusters.valleys import measure_valleys
from ccscale.features.vectors import unit_rows

IMAGES = 20_000  # at most, that are measured
FEW = 20  # images: a cluster of fewer takes the distances of all
FAR = 0.99  # the rank in distance up to which an image is answered
HALF = 1  # what a draw is for: which half an image is in (0: its place, see `reservoir`)


def make_initial_state(
    features: Float32, heads: Int64, confidence: Float32, refs: Int64, *, k: int, seed: int
) -> tuple[State, Reservoir, Pool]:
    """Make the first version of a run's images, or of a random part of them.

    Parameters
    ----------
    features
        (n, D), as the backbone gives them.
    heads, confidence
        (n,): the network's answers.
    refs
        (n,): the refs of the images.
    k
        Clusters of the network: the ids are 0 to K − 1.
    seed
        Selects which images are measured, and which are remembered.

    Returns
    -------
    tuple
        The state, whose clusters have no size as yet (see `State.grown`); what is remembered of the images: all
        have a cluster, and the pool is empty.
    """
    chosen = np.argsort(places(refs, seed), kind="stable")[:IMAGES]
    own, of = features[chosen], heads[chosen]
    halves = places(refs[chosen], seed, HALF) < 0.5
    far = np.full(len(own), np.nan, np.float32)
    for half in (halves, ~halves):
        if half.sum() >= 2 and len(own) - half.sum() >= 2:
            space = Space.of(own[half], of[half], seed)
            centres = centres_of(space(own[half]), of[half], k)
            far[~half] = 1 - (space(own[~half]) * centres[of[~half]]).sum(axis=1)
    space = Space.of(own, of, seed)
    rows = space(own)
    centres = centres_of(rows, of, k)
    state = State(
        space.mean,
        space.axes,
        np.arange(k, dtype=np.int64),
        np.arange(k, dtype=np.int64),
        centres,
        distances_of(far, of, k),
        np.zeros(k, np.int64),
        np.array([tightness_of(rows[of == one]) for one in range(k)], np.float32),
        **measure_valleys(rows, of, np.arange(k)),  # type: ignore[arg-type]
        **no_margins(k),
    )
    width = features.shape[1]
    return state, Reservoir.empty(width).taken(features, heads, refs, seed), Pool.empty(width)


def centres_of(rows: Float32, numbers: Int64, clusters: int) -> Float32:
    """Return the mean direction (K, q) of each cluster's rows; 0 of a cluster without any."""
    total = np.zeros((clusters, rows.shape[1]))
    np.add.at(total, numbers, rows)
    return unit_rows(total)


def distances_of(far: Float32, numbers: Int64, clusters: int) -> Float32:
    """Return quantiles (K, `GRID` + 1) of the distances (n,) of each cluster's rows, NaN where not known."""
    grid = np.linspace(0, 1, GRID + 1)
    known = ~np.isnan(far)
    every = np.quantile(far[known], grid) if known.any() else np.full(GRID + 1, 2.0)
    found = np.tile(every, (clusters, 1))
    for one in range(clusters):
        own = far[known & (numbers == one)]
        if len(own) >= FEW:
            found[one] = np.quantile(own, grid)
    return found.astype(np.float32)


def tightness_of(rows: Float32) -> float:
    """Return the mean cosine of two different rows (m, q) of length 1; 0 of fewer than two."""
    if len(rows) < 2:
        return 0.0
    total = rows.sum(axis=0, dtype=np.float64)
    return float((total @ total - len(rows)) / (len(rows) * (len(rows) - 1)))
