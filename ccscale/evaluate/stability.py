"""Stability: how often two views of an image fall into the same cluster, beyond chance. It needs no labels.

Two random views of some images, drawn as in the run's config, are assigned. The stability is the kappa of their
clusters (`features/kappa.py`): 1 at best, 0 by chance, and 0 for a collapsed clustering.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config
from ccscale.data.images.channels import Channels, empty_images
from ccscale.data.images.crops import crop_views
from ccscale.data.images.device_colour import colour_views
from ccscale.data.images.views import VIEWS, draw_views
from ccscale.data.order.schedule import owned
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import BadImage
from ccscale.evaluate.assign import evaluating
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.features.kappa import kappa
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import Meter
from ccscale.threads import each

IMAGES, NUMBERS = 4096, 2**27  # at most: images, and numbers of their soft assignments (512 MiB)
EPOCH = 2**32 - 1  # views that no epoch of the training has drawn


def agreement(p: NDArray[np.float32], groups: Int64 | None = None) -> dict[str, float]:
    """Return ``agreement``, ``chance``, ``stability``, and ``views``, the number of images.

    Parameters
    ----------
    p
        (2, n, K): the soft assignments of two views of n images.
    groups
        (K,): the group that each cluster is merged into; none are merged by default.
    """
    clusters = p.argmax(axis=2)
    if groups is not None:
        clusters = groups[clusters]
    found = kappa(*clusters)
    return {
        "agreement": found.agreement,
        "chance": found.chance,
        "stability": found.kappa,
        "views": clusters.shape[1],
    }


def view_pairs(
    network: ContrastiveClustering,
    manifest: Manifest,
    splits: Sequence[str],
    config: Config,
    images: int = IMAGES,
    progress: bool = True,
    features: Features | None = None,
) -> NDArray[np.float32] | None:
    """Assign two views of a subset of the images; all ranks call it together.

    Parameters
    ----------
    network
        On its device.
    manifest, splits
        The data set.
    config
        The run's: what a view is, the seed.
    images
        How many, at most; they follow from the seed.
    progress
        Show progress.
    features
        A store of these splits, of which pairs are taken as training draws them: of views, or of neighbours.

    Returns
    -------
    ndarray or None
        On rank 0 the soft assignments (2, n, ΣK) by all cluster heads, side by side (`heads.of_heads`), in the
        order of the samples, without those that cannot be decoded; None elsewhere.

    Raises
    ------
    InputError, Fault
        On all ranks, for a shard that cannot be read.
    """
    reader = SampleReader(manifest, splits, Access.of(config.data))
    total = len(reader) if features is None else features.rows
    numbers = sum(network.settings.head_clusters)
    images = min(images, NUMBERS // (VIEWS * numbers))
    rows = choose_rows(total, config.seed, images)
    mine = owned(len(rows), dist.rank(), dist.world())
    share = rows[mine.start : mine.stop]

    def assign_share() -> NDArray[np.float32]:
        parts = [np.empty((VIEWS, 0, numbers), np.float32)]
        show = progress and dist.rank() == 0
        with evaluating(network), Meter("assigning two views", len(share), "images", show) as meter:
            for start in range(0, len(share), config.evaluate.batch):
                samples = share[start : start + config.evaluate.batch]
                if features is None:
                    parts.append(_assign_views(network, reader, config, samples))
                else:
                    parts.append(_assign_stored(network, features, config, samples))
                meter.advance(len(samples))
        return np.concatenate(parts, axis=1)

    gathered = dist.gather_objects(dist.together(assign_share))
    return None if gathered is None else np.concatenate(gathered, axis=1)


@torch.inference_mode()
def _assign_stored(
    network: ContrastiveClustering, features: Features, config: Config, samples: Int64
) -> NDArray[np.float32]:
    """Return the soft assignments (2, n, ΣK) of pairs of those samples that have features, and a pair."""
    draw = PairDraw(features, config.pairs, config.seed, config.views.raw)
    rows, views = draw(EPOCH, samples[~features.bad[samples]])
    unlike = (rows[0] != rows[1]) | (views[0] != views[1])
    rows, views = rows[:, unlike], views[:, unlike]
    stored = torch.from_numpy(features.take(rows.ravel(), views.ravel()))
    p = torch.cat(network(stored.to(network.device, network.dtype)).heads, dim=1)
    return p.float().cpu().numpy().reshape(VIEWS, rows.shape[1], -1)


@torch.inference_mode()
def _assign_views(
    network: ContrastiveClustering, reader: SampleReader, config: Config, samples: Int64
) -> NDArray[np.float32]:
    """Return the soft assignments (2, n, ΣK) of two views of those samples that can be decoded."""
    size = config.views.size
    params = draw_views(config.views, config.seed, EPOCH, samples)
    channels = Channels.of(network.settings)
    images = empty_images((VIEWS, len(samples), size, size), channels)

    def cut(i: int, data: Any) -> bool:
        try:
            crop_views(data, config.views, params, i, images[:, i], channels)
        except BadImage:
            return False
        return True

    encoded = [reader[int(sample)].data for sample in samples]
    threads = max(1, torch.get_num_threads())  # decoding leaves Python's lock to others
    good = np.array(each([partial(cut, i, data) for i, data in enumerate(encoded)], threads), dtype=bool)
    views = colour_views(
        torch.from_numpy(images).to(network.device).flatten(0, 1),
        params.colour.flatten(),
        config.views,
        network.dtype,
    )
    p = torch.cat(network(views).heads, dim=1)
    return p.float().cpu().numpy().reshape(VIEWS, len(samples), -1)[:, good]
