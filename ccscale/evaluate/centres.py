"""Cluster heads that consist of centres: spherical k-means on a network's outputs for a feature store.

Each image counts by the mean of its features over all views of the store, as when it is assigned. The heads
assign any image by the cosine of its vector with the centres.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale import dist
from ccscale.evaluate.assign import evaluating
from ccscale.features.joining import join_clusters
from ccscale.features.kmeans import k_means
from ccscale.features.store import Features
from ccscale.features.vectors import Vectors
from ccscale.features.whitening import whitening
from ccscale.model.heads import CentreHead
from ccscale.model.network import ContrastiveClustering


class CentreFinder:
    """Finds the centres of a network's centre heads; all ranks call it together, and find the same.

    Parameters
    ----------
    network
        On its device; it is left in the mode it was in.
    features
        The rows that the centres are found by.
    seed
        Of k-means.
    """

    def __init__(self, network: ContrastiveClustering, features: Features, seed: int) -> None:
        self._network, self._features, self._seed = network, features, seed
        self._stale = list(network.centre_heads)

    @torch.no_grad()
    def find(self) -> None:
        """Find those anew that have changed: of embeddings all, of features none after the first time."""
        with evaluating(self._network):
            for head in self._stale:
                vectors = self._vectors(head)
                found = k_means(
                    vectors, len(head.centres), self._seed, spherical=True, device=head.centres.device
                )
                head.centres.copy_(torch.from_numpy(found.centres))
                if head.parts > 1:
                    head.joined.copy_(torch.from_numpy(join_clusters(found, head.clusters)))
        self._stale = [head for head in self._stale if head.of != "features"]

    def _vectors(self, head: CentreHead) -> Vectors:
        """Return the vectors of which a head's centres are found; where they are whitened, find first by what."""
        rows = np.flatnonzero(~self._features.bad)
        if head.of == "features":
            return Vectors(rows, self._features.width, self._features.mean)
        vectors = Vectors(rows, self._network.settings.embedding, self._embeddings)
        if head.of == "embeddings":
            return vectors
        middle, axes = dist.on_rank_zero(lambda: whitening(vectors, head.axes.shape[1]))
        head.middle.copy_(torch.from_numpy(middle))
        head.axes.copy_(torch.from_numpy(axes))

        def read(some: NDArray[np.int64]) -> NDArray[np.float32]:
            embeddings = torch.from_numpy(self._embeddings(some)).to(head.axes.device)
            return head.prepare(embeddings).float().cpu().numpy()

        return Vectors(rows, head.axes.shape[1], read)

    def _embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of the mean features of rows of the store."""
        network = self._network
        means = torch.from_numpy(self._features.mean(rows)).to(network.device, network.dtype)
        return network.instance_head(means).float().cpu().numpy()
