"""Margins by which a new cluster must be nearer than the network's clusters, so that these keep their images.
Pure.

A new class may resemble an existing one and would take some of its images. With s the cosine of an image with its
own cluster's centre and s' with the new one's, the margin between the two clusters is the `KEPT` quantile of s' -
s over the remembered images of the cluster, but at least `MARGIN`. So at most 1 % of these are nearer to the new
cluster by the margin.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import MARGIN, RIVALS, State, later_margins, no_margins

KEPT = 0.99  # of a cluster's remembered images


def margins(state: State, reservoir: Reservoir, centre: Float32) -> dict[str, NDArray[Any]]:
    """Measure the margins of a new cluster towards the nearest clusters of the network.

    Parameters
    ----------
    state, reservoir
        Of the version to which it is added.
    centre
        (q,), of length 1: that of the new cluster.

    Returns
    -------
    dict
        ``rivals``, ``margins``: (1, `RIVALS`), as `State` keeps them.
    """
    found = no_margins(1)
    order = state.heads[np.argsort(-(state.centres @ centre), kind="stable")]
    nearest = list(dict.fromkeys(order[order >= 0].tolist()))[:RIVALS]
    for place, head in enumerate(nearest):
        ids = state.ids[state.heads == head]
        rows = state.space(reservoir.features[np.isin(reservoir.ids, ids)])
        found["rivals"][0, place] = head
        if len(rows):
            own = (rows @ state.centres[np.isin(state.ids, ids)].T).max(axis=1)
            found["margins"][0, place] = max(MARGIN, np.quantile(rows @ centre - own, KEPT))
    return found


def nearer(state: State, reservoir: Reservoir, pool: Pool, centre: Float32) -> NDArray[np.bool_]:
    """Return which images of the pool a new cluster may take: nearer to it than to their cluster by the margin."""
    rows = state.space(pool.features)
    needed = later_margins(pool.heads, **margins(state, reservoir, centre))[:, 0]
    own = np.where(state.heads == pool.heads[:, None], rows @ state.centres.T, -np.inf).max(
        axis=1, initial=-np.inf
    )
    return rows @ centre - own >= needed
