"""Clusters of a store without training, from which cluster heads may start (``model.begin``).

features     spherical k-means of the features, the mean of an image's views
smoothed     the same of features that were smoothed over the graph of neighbours (`graph.py`)
spectral     spectral clustering of that graph, by K and by K / 2 coordinates

Of the requested kinds, the one that keeps most neighbours together is used (`kappa.py`).
"""

from collections.abc import Sequence

import numpy as np
import torch

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import BeginsAs
from ccscale.features.graph import near_positions, neighbour_graph, smooth, spectral_coordinates
from ccscale.features.kappa import neighbour_kappa
from ccscale.features.kmeans import k_means
from ccscale.features.store import Features
from ccscale.features.vectors import Vectors


class FirstClusters:
    """Finds clusters of the good rows of a store; all ranks make one and call it together, and find the same.

    Parameters
    ----------
    features
        With neighbours, for all but ``features``.
    device
        Where distances are computed.

    Attributes
    ----------
    rows
        (n,): the good rows.
    """

    def __init__(self, features: Features, device: torch.device) -> None:
        self._features, self._device = features, device
        self.rows: Int64 = np.flatnonzero(~features.bad)
        self._kept: dict[tuple[BeginsAs, int], Vectors] = {}

    def find(self, kinds: Sequence[BeginsAs], clusters: int, seed: int) -> tuple[BeginsAs, Int64]:
        """Return the clusters that keep most neighbours together: their kind, and that of each good row, (n,)."""
        found: list[tuple[BeginsAs, Int64]] = []
        for kind in kinds:
            counts = sorted({max(2, clusters // 2), clusters}) if kind == "spectral" else [0]
            found += [(kind, self._means(self._vectors(kind, count), clusters, seed)) for count in counts]
        if len(found) == 1:
            return found[0]
        near = near_positions(self._features, self.rows)
        kappas = [neighbour_kappa(some, np.append(some, -1)[near]) for _, some in found]
        return found[int(np.argmax(kappas))]

    def _means(self, vectors: Vectors, clusters: int, seed: int) -> Int64:
        return k_means(vectors, clusters, seed, spherical=True, device=self._device).clusters

    def _vectors(self, kind: BeginsAs, count: int = 0) -> Vectors:
        """Return what k-means clusters; of spectral coordinates so many."""
        if (kind, count) not in self._kept:
            self._kept[kind, count] = self._made(kind, count)
        return self._kept[kind, count]

    def _made(self, kind: BeginsAs, count: int) -> Vectors:
        features = self._features
        if kind == "features":
            return Vectors(self.rows, features.width, features.mean)
        graph = neighbour_graph(near_positions(features, self.rows))
        if kind == "smoothed":
            return Vectors.of_array(smooth(graph, features.mean(self.rows)))
        return Vectors.of_array(dist.on_rank_zero(lambda: spectral_coordinates(graph, count)))
