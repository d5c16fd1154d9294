"""Unassigned images are looked at once more when clusters have been born: some lay among the images of these.

An image is left without a cluster where there were none before (`day.py`). Once the images that it lay among are a
cluster it may be this cluster's, or another's beside it. What is among unassigned images still stays so. Pure.
"""

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.assigning import assign
from ccscale.clusters.day import Day
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State


def settled(state: State, reservoir: Reservoir, pool: Pool, waiting: Int64, seed: int) -> tuple[Int64, Int64]:
    """Return which images of the pool get a cluster by now, (m,) rising, and these, (m,).

    Parameters
    ----------
    state, reservoir, pool
        With the clusters that were born.
    waiting
        Images of births that nobody has decided on: they stay.
    seed
        Of the lineage.
    """
    features, none = pool.features.astype(np.float32), np.empty(0, np.int64)
    if not len(pool):
        return none, none
    day = Day.of(state, reservoir, pool, features[:0], none, none, seed)
    ids = assign(state, features, pool.heads, pool.confidence, pool.refs, day).ids
    got = (ids >= 0) & ~np.isin(pool.refs, waiting)
    return pool.refs[got], ids[got]
