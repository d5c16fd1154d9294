"""Cluster heads that are found: the centres of spherical k-means on what a network makes of a feature store.

An image counts by the mean of its features over all views of the store, as it does where it is assigned. The heads
then assign any image by the cosine of its vector with the centres.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.evaluate.assign import evaluating
from ccscale.features.kmeans import k_means
from ccscale.features.store import Features
from ccscale.features.vectors import Vectors
from ccscale.model.network import ContrastiveClustering


@torch.no_grad()
def find_centres(network: ContrastiveClustering, features: Features, seed: int) -> None:
    """Find the centres of all of a network's centre heads anew; all ranks call it together, and find the same.

    Parameters
    ----------
    network
        On its device; it is left in the mode it was in.
    features
        The rows that the centres are found by.
    seed
        Of k-means.
    """
    with evaluating(network):
        for head in network.centre_heads:
            vectors = _embedded(network, features) if head.of == "embeddings" else _means(features)
            found = k_means(vectors, len(head.centres), seed, spherical=True, device=head.centres.device)
            head.centres.copy_(torch.from_numpy(found.centres))


def _means(features: Features) -> Vectors:
    """Return the mean features of the good rows of a store."""
    return Vectors(np.flatnonzero(~features.bad), features.width, features.mean)


def _embedded(network: ContrastiveClustering, features: Features) -> Vectors:
    """Return the embeddings of the same."""
    some = next(network.parameters())

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        means = torch.from_numpy(features.mean(rows)).to(some.device, some.dtype)
        return network.instance_head(means).float().cpu().numpy()

    return Vectors(np.flatnonzero(~features.bad), network.settings.embedding, read)
