"""Which rows and views of a store make the pairs of a batch: drawn by (seed, epoch, sample), whoever asks.

::

    pairs.of        a                        b
    views           a random view of i       another one of i    (if there is one: that, and i as it is)
    neighbours      i as it is               a neighbour of i as it is
    both            a random view of i       a random view of a neighbour of i

Neighbours that are not among the rows, in another split, or that have no features, are passed over; an image that
has none left is paired with itself.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.config import Pairs
from ccscale.features.store import Features
from ccscale.philox import uniforms

# Second word of the counter, where views have their number and the schedule the largest ones.
_PAIR = 2**32 - 4
_VIEW_A, _VIEW_B, _NEIGHBOUR, _SLOTS = range(4)


@dataclass(frozen=True)
class PairDraw:
    """Draws pairs of a store's rows.

    Attributes
    ----------
    features
        The store, with its rows.
    pairs
        The config's section.
    seed
        The run's.
    raw
        How many of the two views are the image as it is (`Views.raw`).
    """

    features: Features
    pairs: Pairs
    seed: int
    raw: int = 0

    def __call__(self, epoch: int, samples: Int64) -> tuple[Int64, Int64]:
        """Return rows and views of both halves, (2, n) each, for samples (n,)."""
        numbers = uniforms(self.seed, epoch, samples, _PAIR, _SLOTS)
        views = np.zeros((2, len(samples)), dtype=np.int64)
        rows = np.stack([samples, samples])
        if self.pairs.of != "views":
            rows[1] = self._neighbours(samples, numbers[:, _NEIGHBOUR])
        if self.pairs.of != "neighbours":
            views[:] = self._views(numbers[:, _VIEW_A], numbers[:, _VIEW_B])
        return rows, views

    def of_views(self) -> "PairDraw":
        """Return the draw of two views of each image."""
        return self if self.pairs.of == "views" else replace(self, pairs=Pairs())

    def _views(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> Int64:
        """Return two random views (2, n), which are different ones where they are of one image."""
        count = self.features.views
        if count == 0:
            return np.zeros((2, len(a)), dtype=np.int64)
        first = 1 + (a * count).astype(np.int64)
        if self.pairs.of == "both":
            second = 1 + (b * count).astype(np.int64)
        elif count == 1:
            second = np.zeros_like(first)
        else:
            second = 1 + (first + (b * (count - 1)).astype(np.int64)) % count
        views = np.stack([first, second])
        views[2 - self.raw :] = 0
        return views

    def _neighbours(self, samples: Int64, number: NDArray[np.float64]) -> Int64:
        """Return a neighbour of each sample."""
        near = self.features.neighbours(samples)  # (n, k), nearest first; -1: not among these rows
        usable = (near >= 0) & (near != samples[:, None]) & ~self.features.bad[near]
        if self.pairs.neighbours is not None:
            usable &= np.cumsum(usable, axis=1) <= self.pairs.neighbours
        counts = usable.sum(axis=1)
        chosen = (number * counts).astype(np.int64)  # which of the usable ones
        place = (np.cumsum(usable, axis=1) > chosen[:, None]).argmax(axis=1)
        return np.where(counts > 0, near[np.arange(len(samples)), place], samples)
