"""Rows of a store or array as input to k-means and neighbour search: float32, normalized if asked.

Rows that are bad (their image cannot be decoded) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale.array_types import Float32, Int64
from ccscale.features.store import Features

BLOCK = 8192  # rows that are worked on together; which ones follows from their number alone, on any number of ranks


@dataclass(frozen=True)
class Vectors:
    """n vectors of width D, read when they are needed.

    Attributes
    ----------
    numbers
        (n,): which rows of the store, or of the array, they are; rising.
    width
        D.
    of_length_one
        Whether they are scaled to length 1; a vector of zeros stays one.
    """

    numbers: Int64
    width: int
    read: Callable[[Int64], Float32]
    of_length_one: bool = False

    @classmethod
    def of_array(cls, array: NDArray[np.floating]) -> "Vectors":
        """Take all rows of an array (n, D) of floats."""

        def read(rows: Int64) -> Float32:
            return array[rows].astype(np.float32)

        return cls(np.arange(len(array), dtype=np.int64), array.shape[1], read)

    @classmethod
    def of_store(cls, features: Features, view: int | None = 0) -> "Vectors":
        """Take the good rows of a store: of one view, or (None) the mean direction of all."""

        def read(rows: Int64) -> Float32:
            return mean_directions(features, rows) if view is None else features.take(rows, view)

        return cls(np.flatnonzero(~features.bad), features.width, read)

    def __len__(self) -> int:
        return len(self.numbers)

    def scaled(self) -> "Vectors":
        """Return them scaled to length 1."""
        return replace(self, of_length_one=True)

    def subset(self, positions: Int64) -> "Vectors":
        """Return some of them."""
        return replace(self, numbers=self.numbers[positions])

    def take(self, positions: Int64) -> Tensor:
        """Return the vectors of some positions, (m, D) float32."""
        found = torch.from_numpy(self.read(self.numbers[positions]))
        return unit(found) if self.of_length_one else found

    def span(self, start: int, stop: int) -> Tensor:
        """Return consecutive vectors, (stop - start, D) float32."""
        return self.take(np.arange(start, min(stop, len(self))))


def mean_directions(features: Features, rows: Int64) -> Float32:
    """Return the mean of some rows' views, each scaled to length 1 before: (m, D).

    Where vectors are compared by cosines every view counts alike. What a network is given instead of an image
    is `Features.mean`, of the features as they are.
    """
    total = np.zeros((len(rows), features.width), np.float32)
    for each in range(features.views + 1):
        total += unit(torch.from_numpy(features.take(rows, each))).numpy()
    return total / np.float32(features.views + 1)


def unit(rows: Tensor) -> Tensor:
    """Scale rows to length 1; a row of zeros stays one."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def unit_rows(rows: NDArray[np.floating]) -> Float32:
    """Scale rows (n, D) to length 1, in float32; a row of zeros stays one."""
    rows = rows.astype(np.float32, copy=False)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
