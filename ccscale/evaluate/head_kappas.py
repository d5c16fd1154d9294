"""How often nearest neighbours of a store are in the same cluster, for each cluster head; used to choose a head.

Neighbours by the store's features, which no head has changed, are the same criterion for all heads, trained or
made of centres: the head with the highest kappa (`features/kappa.py`) keeps most neighbours together beyond
chance.
"""

import numpy as np
import torch

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config
from ccscale.data.order.schedule import owned
from ccscale.evaluate.assign import evaluating
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.features.kappa import neighbour_kappa
from ccscale.features.store import Features
from ccscale.model.network import ContrastiveClustering

IMAGES = 8192  # at most, whose neighbours are examined
NEIGHBOURS = 25  # of each, at most


def head_kappas(
    network: ContrastiveClustering, features: Features | None, config: Config
) -> list[float] | None:
    """Return the neighbours' kappa by each cluster head; all ranks call it together.

    Parameters
    ----------
    network
        On its device.
    features
        The rows that it is measured on; None where the data are no store.
    config
        The run's: its seed says which images are examined.

    Returns
    -------
    list of float or None
        On rank 0 one for each head. None elsewhere, and where there is no store, or none with neighbours.
    """
    if features is None or features.neighbour_section is None:
        return None
    images = choose_rows(features.rows, config.seed, IMAGES)
    near = features.neighbours(images)[:, :NEIGHBOURS]
    rows = np.unique(np.concatenate([images, near[near >= 0]]))  # that are assigned
    mine = owned(len(rows), dist.rank(), dist.world())
    share = rows[mine.start : mine.stop]
    found = dist.gather_objects(dist.together(lambda: _clusters(network, features, config, share)))
    if found is None:
        return None
    of_all = np.concatenate(found, axis=1)  # (H, rows)
    of_all[:, features.bad[rows]] = -1
    none = np.full((len(of_all), 1), -1, np.int64)
    of_all = np.concatenate([of_all, none], axis=1)  # what place -1 finds: the cluster of no image
    place = np.full(features.rows + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    return [neighbour_kappa(clusters[place[images]], clusters[place[near]]) for clusters in of_all]


@torch.inference_mode()
def _clusters(network: ContrastiveClustering, features: Features, config: Config, rows: Int64) -> Int64:
    """Return the clusters (H, n) of some rows by each head, as they are assigned: by the mean of their views."""
    clusters = np.empty((len(network.settings.head_clusters), len(rows)), np.int64)
    with evaluating(network):
        for start in range(0, len(rows), config.evaluate.batch):
            block = slice(start, start + config.evaluate.batch)
            means = torch.from_numpy(features.mean(rows[block]))
            heads = network(means.to(network.device, network.dtype)).heads
            clusters[:, block] = torch.stack([p.argmax(dim=1) for p in heads]).cpu().numpy()
    return clusters
