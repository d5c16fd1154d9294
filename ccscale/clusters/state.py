"""The state of living clusters at a version: ids, centres, distances of images from them. Pure functions.

A cluster has one centre or several (a merged one keeps those of both). A centre belongs to the cluster of the
network from which it was computed, or to none (-1) if the cluster was born later; images of any cluster of the
network may then belong to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Float64, Int64
from ccscale.clusters.space import Space

GRID = 200  # quantiles of distances that are kept
NEAR = 3  # clusters that one is held against
MARGIN = 0.05  # of a cosine, by which a cluster that came later must be nearer than the network's, or more
RIVALS = 8  # of the network's clusters, that a later one has margins of its own towards


@dataclass(frozen=True)
class State:
    """C centres of K clusters.

    Attributes
    ----------
    mean, axes
        See `Space`: (D,), (D, q).
    ids
        (C,) int64: the cluster of each centre.
    heads
        (C,) int64: the network's cluster of each, or -1.
    centres
        (C, q) float32, of length 1.
    distances
        (C, `GRID` + 1) float32, ascending: quantiles of 1 − cosine of held-out images of the cluster with the
        centre.
    sizes
        (C,) int64: number of assigned images; for a cluster of several centres, their sum counts.
    tightness
        (C,) float32: the mean cosine of two images of it.
    whole
        (C,) float32: the p-value of a valley within it when it was created (see `separation.py`).
    near, parted
        (C, `NEAR`): the ids of the nearest clusters when it was created, or -1; the p-values of the valleys
        between.
    rivals, margins
        (C, `RIVALS`): for a cluster that was added later, the nearest clusters of the network, or -1; the margin
        by which it must be nearer to an image of each (see `margins.py`).
    """

    mean: Float32
    axes: Float32
    ids: Int64
    heads: Int64
    centres: Float32
    distances: Float32
    sizes: Int64
    tightness: Float32
    whole: Float32
    near: Int64
    parted: Float32
    rivals: Int64
    margins: Float32

    @property
    def space(self) -> Space:
        """Return the space in which it compares images."""
        return Space(self.mean, self.axes)

    @property
    def clusters(self) -> Int64:
        """Return the ids of all clusters, (K,), rising."""
        return np.unique(self.ids)

    def size_of(self, cluster: int) -> int:
        """Return how many images a cluster has got."""
        return int(self.sizes[self.ids == cluster].sum())

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "State":
        """Take it from what `arrays` has given, of a version without margins too."""
        arrays = no_margins(len(arrays["ids"])) | dict(arrays)
        return cls(**{one.name: np.asarray(arrays[one.name]) for one in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is to be kept."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def grown(self, ids: Int64) -> "State":
        """Return it with more images, by their clusters (n,); -1 counts for none."""
        sizes = self.sizes.copy()
        for cluster, count in zip(*np.unique(ids[ids >= 0], return_counts=True), strict=True):
            sizes[np.flatnonzero(self.ids == cluster)[0]] += count
        return replace(self, sizes=sizes)

    def only(self, rows: NDArray[Any]) -> "State":
        """Return it with some of its centres."""
        return replace(self, **{name: getattr(self, name)[rows] for name in PER_CENTRE})

    def with_centres(self, more: "State") -> "State":
        """Return it with more centres, of the same space."""
        both = {name: (getattr(self, name), getattr(more, name)) for name in PER_CENTRE}
        return replace(self, **{name: np.concatenate(arrays) for name, arrays in both.items()})


def no_margins(centres: int) -> dict[str, NDArray[Any]]:
    """Return `rivals` and `margins` of centres that have none of their own."""
    shape = centres, RIVALS
    return {"rivals": np.full(shape, -1), "margins": np.full(shape, MARGIN, np.float32)}


PER_CENTRE = tuple(one.name for one in fields(State) if one.name not in ("mean", "axes"))


def distance_rank(values: NDArray[np.floating], quantiles: Float32) -> Float64:
    """Return the share of rising quantiles (n, G) strictly below each value (n,)."""
    return (quantiles < values[:, None]).mean(axis=1)


def nearest_centre(rows: Float32, state: State, heads: Int64) -> tuple[Int64, Float32]:
    """Return for each row (n, q) the nearest centre that its head (n,) allows: which, and 1 − the cosine.

    Where none is allowed it is -1, at distance 2.
    """
    if not len(state.ids):
        return np.full(len(rows), -1), np.full(len(rows), 2, np.float32)
    allowed = (state.heads == heads[:, None]) | (state.heads == -1)
    cosines = rows @ state.centres.T
    later, held = state.heads == -1, cosines.copy()
    held[:, later] -= later_margins(heads, state.rivals[later], state.margins[later])
    best = np.where(allowed, held, -np.inf).argmax(axis=1)
    found, largest = allowed.any(axis=1), cosines[np.arange(len(rows)), best]
    return np.where(found, best, -1), np.where(found, 1 - largest, 2).astype(np.float32)


def later_margins(heads: Int64, rivals: Int64, margins: Float32) -> Float32:
    """Return the margins (n, L) of L later clusters towards images of the network's clusters, (n,)."""
    found = np.full((len(heads), len(rivals)), MARGIN, np.float32)
    for place in range(RIVALS):
        found = np.where(rivals[:, place] == heads[:, None], margins[:, place], found)
    return found
