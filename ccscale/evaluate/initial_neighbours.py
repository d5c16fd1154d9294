"""How often initial neighbours stay in the same cluster, for runs without a store of neighbours.

For some unaugmented images, the nearest neighbours among the others are computed once, by the features of the
backbone at that time. They are kept while the network changes, and the kappa of the images with them
(`features/kappa.py`) compares one state of the network with another.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config
from ccscale.data.order.schedule import owned
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.assign import assign
from ccscale.features.kappa import neighbour_kappa
from ccscale.features.nearest import nearest
from ccscale.features.store import Features
from ccscale.model.network import ContrastiveClustering

IMAGES, SPAN = 8192, 128  # at most, looked at; of more, so many that lie together
NEIGHBOURS = 10  # of each


def initial_neighbour_kappa(
    network: ContrastiveClustering,
    manifest: Manifest,
    splits: Sequence[str],
    config: Config,
    near: Int64 | None,
    workers: int = 0,
    features: Features | None = None,
) -> tuple[float, Int64] | None:
    """Return how many of the neighbours are together beyond chance; all ranks call it together.

    Parameters
    ----------
    network, manifest, splits, config, workers, features
        As for `assign`.
    near
        On rank 0: the neighbours that were found before; None to find them.

    Returns
    -------
    float, ndarray
        On rank 0 the kappa, and the neighbours (m, k): their places among the m images that are examined, -1 for
        none. None elsewhere.

    Raises
    ------
    InputError, Fault
        On all ranks, for a shard that cannot be read.
    """
    total = sum(shard.nsamples for shard in manifest.select(splits))
    if total > IMAGES:
        starts = np.linspace(0, total - SPAN, IMAGES // SPAN).astype(np.int64).tolist()
        spans = [range(start, start + SPAN) for start in starts]
        mine = owned(len(spans), dist.rank(), dist.world())
        share = spans[mine.start : mine.stop]
    else:
        share = [owned(total, dist.rank(), dist.world())]

    def look() -> tuple[Int64, NDArray[np.float32]]:
        batches = assign(
            network, manifest, splits, config, workers=workers, spans=share, progress=False, features=features
        )
        found = [(each.clusters, each.outputs.features.float().cpu().numpy()) for each in batches]
        if not found:
            return np.empty(0, np.int64), np.empty((0, network.width), np.float32)
        clusters, vectors = zip(*found, strict=True)
        return np.concatenate(clusters), np.concatenate(vectors)

    gathered = dist.gather_objects(dist.together(look))
    if gathered is None:
        return None
    clusters = np.concatenate([part for part, _ in gathered])
    if near is None:
        near = _neighbours(np.concatenate([part for _, part in gathered]), clusters >= 0)
    return neighbour_kappa(clusters, np.where(near < 0, -1, clusters[near])), near


def _neighbours(vectors: NDArray[np.float32], good: NDArray[np.bool_]) -> Int64:
    """Return the nearest neighbours of each vector among the good ones, (m, k); -1 of one that is not good."""
    rows = np.flatnonzero(good)
    near = np.full((len(vectors), NEIGHBOURS), -1, np.int64)
    if len(rows) < 2:
        return near
    unit = F.normalize(torch.from_numpy(vectors[rows]), dim=1)
    numbers = torch.arange(len(rows))
    _, found = nearest(unit, numbers, [(numbers, unit)], min(NEIGHBOURS, len(rows) - 1))
    near[rows, : found.shape[1]] = rows[found.numpy()]
    return near
