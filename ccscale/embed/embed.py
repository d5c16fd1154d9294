"""``ccscale embed``: computes the features of all images of some shards once, into a store.

::

    backbone.py     what makes them: timm's, or a run's
    opening.py      a store is begun, or continued
    growing.py      shard by shard, by all ranks, to a store that is whole or goes on
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ccscale import dist
from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Model, Views
from ccscale.data.loader import default_workers
from ccscale.data.remote import location
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.pixels import follow_pixels
from ccscale.data.shards.shard_watch import ShardWatch
from ccscale.data.whole_images import RandomViews
from ccscale.device import pick_device
from ccscale.embed.backbone import Backbone, backbone_of_run, backbone_of_timm
from ccscale.embed.features import Embedder
from ccscale.embed.growing import GrowingStore
from ccscale.embed.opening import open_store
from ccscale.errors import InputError
from ccscale.evaluate.follow_shards import follow_shards
from ccscale.evaluate.opened_run import open_shards
from ccscale.features.feature_file import FeatureFileReader
from ccscale.features.listing import Dtype, Settings
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment


@dataclass(frozen=True)
class BackboneSource:
    """The backbone that is to make the features: timm's, or a run's.

    Attributes
    ----------
    model : Model, optional
        The config's section ``model``, of which backbone, weights, stem and normalize count.
    weights : str, optional
        In place of the section's: a .safetensors file, a name, or ``random``.
    run : str, optional
        The folder of a run, whose backbone it is.
    checkpoint : str, default "last"
        Of the run; see `checkpoint.choose`.
    origin : str, optional
        What is said of where a run's weights come from; by default its folder and step.
    """

    model: Model | None = None
    weights: str | None = None
    run: str | None = None
    checkpoint: str = "last"
    origin: str | None = None

    def following(self, shards: str) -> "BackboneSource":
        """Return it with what was measured of the numbers of the images in some shards, where it is timm's."""
        if self.model is None or self.run is not None:
            return self
        return replace(self, model=follow_pixels(self.model, Manifest.load(shards)))

    def load(self, size: int | None, seed: int, device: torch.device) -> Backbone:
        """Return the backbone; see `backbone_of_timm` and `backbone_of_run`."""
        if self.run is not None:
            backbone = backbone_of_run(self.run, self.checkpoint, size, device)
            return replace(backbone, origin=self.origin or backbone.origin)
        assert self.model is not None, "a source is a model or a run"
        return backbone_of_timm(self.model, size, seed, device, self.weights)


@dataclass(frozen=True)
class EmbedOptions:
    """What features are wanted.

    Attributes
    ----------
    size : int, optional
        Side of the images in pixels; by default a run's own, or what timm's model was made for.
    views : int, default 0
        Random views of each image, beside the image as it is.
    view_settings : Views
        What a random view is; its `size` and `raw` do not count.
    seed : int, default 0
        Of the views.
    dtype : str, default "float16"
        As which they are kept: float16, bfloat16 or float32.
    batch : int, default 64
        Views that go through the backbone at a time.
    """

    size: int | None = None
    views: int = 0
    view_settings: Views = field(default_factory=Views)
    seed: int = 0
    dtype: Dtype = "float16"
    batch: int = 64

    def random_views(self, size: int) -> RandomViews | None:
        """Return what is to be cut beside the image as it is."""
        if not self.views:
            return None
        settings = self.view_settings.model_copy(update={"size": size, "raw": 0})
        return RandomViews(settings, self.views, self.seed)

    def settings(self, backbone: Backbone) -> Settings:
        """Return what the features depend on."""
        views = self.random_views(backbone.size)
        return Settings(
            backbone=backbone.settings.backbone,
            weights=backbone.fingerprint,
            origin=backbone.origin,
            model=backbone.kept_settings,
            size=backbone.size,
            scaled_decode=self.view_settings.scaled_decode,
            dtype=self.dtype,
            views=self.views,
            seed=self.seed if views else 0,
            view_settings=None if views is None else views.settings.model_dump(mode="json"),
        )


def embed_shards(
    shards: str,
    out: str | Path,
    source: BackboneSource,
    wanted: EmbedOptions,
    splits: Sequence[str] | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    following: bool = False,
    idle: float | None = None,
    request: StopRequest | None = None,
    access: Access | None = None,
    neighbours: int | None = None,
) -> dict[str, Any] | None:
    """Make a feature store of shards, or continue with it; all ranks call it together.

    Parameters
    ----------
    shards : str
        Any data set, with labels or without.
    out : str or Path
        The store's folder.
    source : Source
        What makes the features.
    wanted : Wanted
        What features.
    splits : sequence of str, optional
        All by default. Those that the store has already stay.
    device : str, default "auto"
        See ``train.device``.
    workers : int, optional
        See ``data.workers``.
    following : bool, default False
        Continue with shards that appear, until stopped.
    idle : float, optional
        Stop following after this many seconds without a new shard.
    request : StopRequest, optional
        To stop following, of a caller who has begun to listen.
    access : Access, optional
        How remote shards are read.
    neighbours : int, optional
        Find this many nearest neighbours of each row too, by the mean of its views; see `find_neighbours`.

    Returns
    -------
    dict or None
        On rank 0: ``out``, ``rows``, ``width``, ``views``, ``dtype``, ``origin``, ``new`` (rows that were not there
        before), ``bad`` (rows without features), ``reasons`` (a line for each new one of these), ``neighbours``
        (what `find_neighbours` returned, or None). None elsewhere.

    Raises
    ------
    InputError
        If the backbone or the data are not there, or the store is of others, naming what differs.
    Fault
        If it cannot be written.
    """
    if idle is not None and not following:
        raise InputError("--idle goes with --follow").told_by(0)
    request = StopRequest() if request is None else request
    env, folder = RankEnvironment.read(), Path(out)
    with process_group(env, pick_device(device, env.local_rank), request.at_once()):
        there = None if following else open_images(shards, splits)
        with growing_store(
            folder,
            source,
            wanted,
            shards,
            device=device,
            workers=workers,
            request=request,
            access=access,
            following=following,
        ) as store:
            if there is not None:
                store.grow(*there)
            else:
                for found in follow_shards(ShardWatch(shards, splits), request, idle):
                    grow_by(store, found, request)
            found_neighbours = None
            if neighbours is not None and store.listing.complete:
                view = None if wanted.views else 0
                found_neighbours = find_neighbours(open_features(folder), neighbours, view, device=device)
            return _result(store) | {"neighbours": found_neighbours} if dist.rank() == 0 else None


def grow_by(store: GrowingStore, found: Manifest, request: StopRequest | None = None) -> None:
    """Add shards that were found, behind those that a store has; all ranks call it together."""
    listed = [file.shard for file in store.listing.files]
    urls = {shard.url for shard in listed}
    new = [shard for shard in found.shards if shard.url not in urls]
    store.grow(replace(found, shards=(*listed, *new)), tuple(found.splits), request)


@contextmanager
def growing_store(
    folder: Path,
    source: BackboneSource,
    wanted: EmbedOptions,
    shards: str,
    *,
    device: str = "auto",
    workers: int | None = None,
    request: StopRequest | None = None,
    access: Access | None = None,
    following: bool = False,
) -> Iterator[GrowingStore]:
    """Begin a store, or open one to continue with; it is locked for the length of the context; all ranks call it.

    Parameters are those of `embed_shards`, which raises the same errors.
    """
    env = RankEnvironment.read()
    where = pick_device(device, env.local_rank)
    with (
        FolderLock(folder) as lock,
        process_group(env, where, None if request is None else request.at_once()),
    ):
        known = source
        if not following or (source.model is not None and source.model.of_channels):
            known = dist.on_rank_zero(lambda: source.following(shards))
        backbone = dist.together(lambda: known.load(wanted.size, wanted.seed, where))
        settings = dist.on_rank_zero(lambda: wanted.settings(backbone))
        dist.on_rank_zero(lock.create)
        root = location.local_or_url(shards)
        listing = dist.on_rank_zero(lambda: open_store(folder, settings, backbone, root))
        embedder = Embedder(
            backbone,
            wanted.dtype,
            wanted.random_views(backbone.size),
            settings.scaled_decode,
            wanted.batch,
            default_workers(env.local_world) if workers is None else workers,
        )
        yield GrowingStore(folder, listing, embedder, access)


def open_images(shards: str, splits: Sequence[str] | None) -> tuple[Manifest, tuple[str, ...]]:
    """Return a data set with images in it, and the splits asked for."""
    manifest, chosen = open_shards(shards, splits)
    if not any(shard.nsamples for shard in manifest.select(chosen)):
        raise InputError(f"there are no images in the splits {', '.join(chosen)} of {manifest.root}").told_by(
            0
        )
    return manifest, chosen


def _result(store: GrowingStore) -> dict[str, Any]:
    listing = store.listing
    settings = listing.settings
    reasons = [
        reason
        for file in store.new
        if file.bad
        for reason in FeatureFileReader(store.folder / file.name).facts["bad"]
    ]
    return {
        "out": str(store.folder),
        "rows": listing.rows,
        "width": listing.width,
        "views": settings.views,
        "dtype": settings.dtype,
        "origin": settings.origin,
        "new": sum(file.rows for file in store.new),
        "bad": sum(file.bad for file in listing.files),
        "reasons": reasons,
    }
