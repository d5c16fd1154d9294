"""Estimates the cost of embedding the images of some shards on this machine, measured on the first of them."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ccscale.data.loader import default_workers
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.device import pick_device
from ccscale.embed.embed import BackboneSource, EmbedOptions, open_images
from ccscale.embed.features import Embedder
from ccscale.features.listing import ROWS
from ccscale.plan.probe import measured
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

WARM_UP, SECONDS = 3, 10.0  # batches that do not count, and how long those go on that do


@dataclass(frozen=True)
class EmbedPlan:
    """Estimated cost of one process.

    Attributes
    ----------
    images, views, width
        Number of images, of views of each (the image as it is among them), and of their features' columns.
    device, origin
        Where the backbone computes, and where its weights come from.
    rate
        Images a second.
    seconds
        Of all images.
    bytes
        What the process holds for itself, its loader processes not counted.
    disk
        Bytes of the store's features.
    """

    images: int
    views: int
    width: int
    device: str
    origin: str
    rate: float
    seconds: float
    bytes: int
    disk: int

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def plan_embedding(
    shards: str,
    source: BackboneSource,
    wanted: EmbedOptions,
    splits: Sequence[str] | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    access: Access | None = None,
) -> EmbedPlan:
    """Embed some images, and tell what all will take; nothing is written. For the parameters see `embed_shards`.

    Raises
    ------
    InputError
        If the backbone or the data are not there.
    """
    env = RankEnvironment()
    where = pick_device(device)
    with process_group(env, where):
        backbone = source.following(shards).load(wanted.size, wanted.seed, where)
        manifest, chosen = open_images(shards, splits)
        images = sum(shard.nsamples for shard in manifest.select(chosen))
        embedder = Embedder(
            backbone,
            wanted.dtype,
            wanted.random_views(backbone.size),
            wanted.view_settings.scaled_decode,
            wanted.batch,
            default_workers() if workers is None else workers,
        )
        rate, cost = measured(lambda: _rate(embedder, manifest, chosen, images, access))
    views = wanted.views + 1
    of_image = views * backbone.width * getattr(torch, wanted.dtype).itemsize
    held = cost.bytes + of_image * min(images, ROWS)  # a part, until it is written
    width, origin = backbone.width, backbone.origin
    disk = of_image * images
    return EmbedPlan(images, views, width, str(where), origin, rate, images / rate, held, disk)


def _rate(
    embedder: Embedder, manifest: Manifest, splits: Sequence[str], images: int, access: Access | None
) -> float:
    """Return how many images a second go through the backbone, from shards, once the first batches have."""
    done, ends = [0], [time.perf_counter()]
    for embedded in embedder.embed(manifest, splits, [range(images)], access=access):
        done.append(done[-1] + len(embedded.keys))
        ends.append(time.perf_counter())
        if len(ends) > WARM_UP + 1 and ends[-1] - ends[WARM_UP] > SECONDS:
            break
    first = min(WARM_UP, len(ends) - 2)
    return (done[-1] - done[first]) / (ends[-1] - ends[first])
