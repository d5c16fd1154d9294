"""The remembered images of living clusters: some of each cluster, and unassigned ones. Pure functions.

An image has a permanent number, its `ref`; its random priority within a cluster depends only on this number and
the seed. So the images kept depend neither on the order in which they came nor on how many came at a time: in
each cluster, those with the lowest priority numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float16, Float32, Int64
from ccscale.philox import uniforms

ROWS, FEWEST, MOST = 16_384, 16, 256  # of the reservoir: in all; of a cluster at least, at most
POOL = 4_096  # images without a cluster that are remembered
PLACE = 0  # what a draw is for: an image's place in the queue


def places(refs: Int64, seed: int, purpose: int = PLACE) -> NDArray[np.float64]:
    """Return the number in [0, 1) that is drawn for each image, (m,)."""
    return uniforms(seed, purpose, refs, 0, 2) @ np.array((1.0, 2.0**-32))


@dataclass(frozen=True)
class Remembered:
    """Features of some images.

    Attributes
    ----------
    features
        (m, D) float16, as the backbone gives them.
    refs
        (m,) int64, rising: which images they are.
    """

    features: Float16
    refs: Int64

    def __len__(self) -> int:
        return len(self.refs)

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take them from what `arrays` has given."""
        return cls(**{one.name: np.asarray(arrays[one.name]) for one in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is to be kept."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def subset(self, rows: NDArray[Any]) -> Self:
        """Return some of them, by number or by a mask."""
        return type(self)(**{name: array[rows] for name, array in self.arrays().items()})

    def joined(self, other: Self) -> Self:
        """Return both, each image once, the newer one's facts where it is in both."""
        mine = self.arrays()
        both = type(self)(
            **{name: np.concatenate([array, mine[name]]) for name, array in other.arrays().items()}
        )
        return both.subset(np.unique(both.refs, return_index=True)[1])


@dataclass(frozen=True)
class Reservoir(Remembered):
    """Some images of each cluster, of large ones no more than of small ones.

    Attributes
    ----------
    ids
        (m,) int64: the cluster of each.
    """

    ids: Int64

    @classmethod
    def empty(cls, width: int) -> "Reservoir":
        """Return one without images."""
        return cls(np.empty((0, width), np.float16), np.empty(0, np.int64), np.empty(0, np.int64))

    def taken(self, features: Float32, ids: Int64, refs: Int64, seed: int) -> "Reservoir":
        """Return it with more images, (n, D), (n,), (n,), of which it keeps its share; those without a cluster
        (-1) are left out."""
        sure = ids >= 0
        more = Reservoir(features[sure].astype(np.float16), refs[sure], ids[sure])
        return self.joined(more)._bounded(seed)

    def renamed(self, ids: Mapping[int, int], seed: int) -> "Reservoir":
        """Return it with clusters that have got other ids."""
        new = np.array([ids.get(one, one) for one in self.ids.tolist()], np.int64)
        return Reservoir(self.features, self.refs, new)._bounded(seed)

    def _bounded(self, seed: int) -> "Reservoir":
        clusters, numbers = np.unique(self.ids, return_inverse=True)
        most = int(np.clip(ROWS // max(1, len(clusters)), FEWEST, MOST))
        order = np.lexsort((self.refs, places(self.refs, seed), numbers))
        starts = np.searchsorted(numbers[order], np.arange(len(clusters)))
        rank = np.arange(len(order)) - starts[numbers[order]]
        return self.subset(np.sort(order[rank < most]))


@dataclass(frozen=True)
class Pool(Remembered):
    """Images without a cluster; where there are too many, the newest.

    Attributes
    ----------
    heads
        (m,) int64: the network's cluster of each.
    confidence
        (m,) float32: its confidence.
    came
        (m,) int64: in which version each came.
    """

    heads: Int64
    confidence: Float32
    came: Int64

    @classmethod
    def empty(cls, width: int) -> "Pool":
        """Return one without images."""
        none = np.empty(0, np.int64)
        return cls(np.empty((0, width), np.float16), none, none, np.empty(0, np.float32), none)

    def taken(
        self, features: Float32, refs: Int64, heads: Int64, confidence: Float32, came: int, seed: int
    ) -> tuple["Pool", int]:
        """Return it with more images, (n, D), (n,), (n,), (n,), and how many it had to forget."""
        more = Pool(
            features.astype(np.float16), refs, heads, confidence.astype(np.float32), np.full(len(refs), came)
        )
        both = self.joined(more)
        order = np.lexsort((both.refs, places(both.refs, seed), -both.came))
        return both.subset(np.sort(order[:POOL])), max(0, len(both) - POOL)

    def without(self, refs: Int64) -> "Pool":
        """Return it without some images."""
        return self.subset(~np.isin(self.refs, refs))
