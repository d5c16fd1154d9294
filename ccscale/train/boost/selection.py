"""Selects the images of a global batch that have a label after a step. Pure functions of the network's outputs.

With M images of a batch and K clusters, by a threshold (TCL, section 3.3):

1. In each cluster, the ceil(share M / K) most confident images are candidates.
2. A candidate without a label gets its cluster as label.
3. An image whose confidence is below the threshold has no label.

So an older label stays even if the image has moved to another cluster.

By a calibrated confidence c, again in each step (CDC: Jia et al., "Towards calibrated deep clustering network",
ICLR 2025): of the n candidates of a cluster, the n mean(c) = sum(c) most confident ones get a label, which is the
expected number of right ones. It is rounded to the nearest integer; CDC rounds down, but then clusters with a
single candidate, as when there are more clusters than images, would never get a label.

Ties are broken by the order in the batch.
"""

import math

import torch
from torch import Tensor

from ccscale.train.boost.means import sums_by


def candidates(confidence: Tensor, clusters: Tensor, k: int, share: float) -> Tensor:
    """Return which images are among the most confident of their clusters.

    Parameters
    ----------
    confidence, clusters
        (M,): the largest soft assignment of each image of the global batch, and to which cluster.
    k
        K.
    share
        Of what a cluster would have of the batch, were all of one size.

    Returns
    -------
    Tensor
        (M,) bool.
    """
    return _places(confidence, clusters, k) < _quota(len(clusters), k, share)


def most_confident(confidence: Tensor, clusters: Tensor, k: int, share: float) -> Tensor:
    """Return which images have a label by their calibrated confidence.

    Parameters
    ----------
    confidence
        (M,): how probable it is that each image of the global batch is in its cluster.
    clusters, k, share
        As for `candidates`.

    Returns
    -------
    Tensor
        (M,) bool.
    """
    places = _places(confidence, clusters, k)
    among = torch.where(places < _quota(len(clusters), k, share), confidence, 0)
    return places < sums_by(clusters, among[:, None], k)[:, 0].round()[clusters]


def _quota(images: int, k: int, share: float) -> int:
    """Return how many candidates a cluster has at most."""
    return math.ceil(share * images / k)


def _places(confidence: Tensor, clusters: Tensor, k: int) -> Tensor:
    """Return how many images of its cluster are more confident than each, (M,)."""
    order = torch.argsort(confidence, descending=True, stable=True)
    order = order[torch.argsort(clusters[order], stable=True)]  # cluster by cluster, the most confident first
    ordered = clusters[order]
    sizes = torch.zeros(k, dtype=torch.long, device=clusters.device).index_add_(0, clusters, _ones(clusters))
    firsts = sizes.cumsum(0) - sizes
    place = torch.arange(len(order), device=order.device) - firsts[ordered]
    found = torch.empty_like(place)
    found[order] = place
    return found


def relabel(
    labels: Tensor, confidence: Tensor, clusters: Tensor, k: int, share: float, threshold: float
) -> Tensor:
    """Return the labels of a batch after a step.

    Parameters
    ----------
    labels
        (M,) integers: those that the images had; -1 for none.
    confidence, clusters, k, share
        As for `candidates`.
    threshold
        What the confidence must reach.

    Returns
    -------
    Tensor
        (M,), of the type of `labels`.
    """
    offered = torch.where(candidates(confidence, clusters, k, share), clusters, -1).to(labels.dtype)
    kept = torch.where(labels < 0, offered, labels)
    return torch.where(confidence >= threshold, kept, -1).to(labels.dtype)


def _ones(like: Tensor) -> Tensor:
    return torch.ones_like(like, dtype=torch.long)
