"""The config of a run on a feature store: keys taken from the store, and checks that the two agree.

Backbone (frozen) and views are those of the store; the config may leave them out but not differ.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ccscale.config import Config
from ccscale.config.section import Section
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.shard_watch import UNLISTED, are_others
from ccscale.errors import Fault, InputError
from ccscale.features.store import Features
from ccscale.wording import agree, counted

FOLLOWED = ("stem", "normalize", "in_chans", "pixels")  # of the backbone's settings
BACKBONE = "backbone.safetensors"  # in a store; not in one that was made of arrays


def open_run_store(config: Config) -> tuple[Config, Features]:
    """Open the store of a run, and return it with the config that follows it.

    Parameters
    ----------
    config
        Has `data.features`.

    Returns
    -------
    Config, Features
        Backbone, size and views are the store's; the rows are those of the splits trained on.

    Raises
    ------
    InputError
        If there is no such store, it is of other shards, or the config contradicts it.
    """
    assert config.data.features is not None
    growing = config.data.refresh is not None  # then what is listed counts, while more is made
    features = Features(config.data.features, config.data.splits, unfinished=growing)
    config = apply_store_settings(config, features)
    _check_pairs(config, features)
    if set(config.model.begin) - {"features"} and features.neighbour_section is None:
        raise InputError(
            f"model.begin is {', '.join(config.model.begin)}, but {features.folder} has no neighbours: "
            "compute them with `ccscale embed --neighbours 25`"
        )
    check_shards(features)
    if (most := max(config.model.cluster_counts)) > features.rows:
        splits = ", ".join(features.splits)
        raise InputError(
            f"model.clusters is {most}, but {features.folder} has only {counted(features.rows, 'image')} "
            f"of {splits}: use fewer clusters"
        )
    return config, features


def apply_store_settings(config: Config, features: Features) -> Config:
    """Return a config with the backbone and the views of a store.

    Raises
    ------
    InputError
        If it says otherwise.
    """
    store, settings = features.folder, features.settings
    for key in ("pretrained", "weights"):
        if getattr(config.model, key):
            raise InputError(
                f"model.{key} is {getattr(config.model, key)}, but a run on a feature store has the "
                f"backbone that made it ({store}): leave it out"
            )
    model = {key: value for key, value in settings.model.items() if key in FOLLOWED}
    model |= {"backbone": settings.backbone, "freeze": "all"}
    views: dict[str, Any] = {"size": settings.size, "scaled_decode": settings.scaled_decode}
    views |= {key: value for key, value in (settings.view_settings or {}).items() if key != "raw"}
    return config.model_copy(
        update={
            "model": _agree(config.model, "model", model, store),
            "views": _agree(config.views, "views", views, store),
        }
    )


def read_backbone(features: Features) -> dict[str, Tensor] | None:
    """Return the weights of the backbone that made a store; None for one that was made of arrays.

    Raises
    ------
    InputError
        If they are damaged.
    """
    path = features.folder / BACKBONE
    try:
        return load_file(path) if path.exists() else None
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); run `ccscale embed verify {features.folder}`"
        ) from None


def content_digest(config: Config, features: Features) -> str:
    """Return a hash of what a run reads from a store: features and, for pairs of neighbours, these."""
    reads_them = config.pairs.of != "views" or set(config.model.begin) - {"features"}
    neighbours = features.neighbour_section if reads_them else None
    return hashlib.sha256(json.dumps([features.digest, neighbours], sort_keys=True).encode()).hexdigest()


def _agree(section: Section, name: str, wanted: dict[str, Any], store: Path) -> Any:
    """Return a section with the values of a store; refuse one that was given another."""
    values = type(section).model_validate(section.model_dump() | wanted)
    for key in wanted:
        said, value = getattr(section, key), getattr(values, key)
        if key in section.model_fields_set and said != value:
            raise InputError(
                f"{name}.{key} is {said}, but the feature store {store} has {value}: leave it out, or "
                "make a store with it (`ccscale embed`)"
            )
    return values


def _check_pairs(config: Config, features: Features) -> None:
    """Check that the store has what the pairs need."""
    pairs, store = config.pairs, features.folder
    if (
        pairs.of in ("views", "both")
        and not features.views
        and not (pairs.of == "views" and config.views.raw == 2)
    ):
        raise InputError(
            f"pairs.of is {pairs.of}, but {store} has no random views: set pairs.of=neighbours, or make a "
            "store with `ccscale embed --views 2`"
        )
    if pairs.of == "views":
        return
    there = (features.neighbour_section or {}).get("k", 0)
    if there < (pairs.neighbours or 1):
        what = f"has {counted(there, 'neighbour')} of each image" if there else "has no neighbours"
        more = pairs.neighbours or 50
        wanted = f"pairs.neighbours is {pairs.neighbours}" if there else f"pairs.of is {pairs.of}"
        raise InputError(
            f"{wanted}, but {store} {what}: compute them with `ccscale embed --neighbours {more}`"
        )


def check_shards(features: Features) -> None:
    """Check that a store belongs to the shards that it names, if these can be read.

    Raises
    ------
    InputError
        If they are others by now.
    """
    root = features.listing.data.root
    try:
        manifest = Manifest.load(root, retry_seconds=1)
    except (InputError, Fault):
        return  # the features are all that training needs
    known = {shard.url: shard for shard in manifest.shards}
    others = [shard for shard in features.shards if not _is_that(shard, known.get(shard.url))]
    if others:
        raise InputError(
            f"{features.folder} does not belong to the shards in {root}: {counted(len(others), 'shard')} that it "
            f"was made of {agree(len(others), 'is', 'are')} not there, or changed, the first is {others[0].url}; "
            f"make it anew with `ccscale embed {root} STORE`"
        )


def _is_that(shard: Shard, listed: Shard | None) -> bool:
    """Return whether a shard of a store may be the one that is listed; it may have been embedded before it was."""
    if listed is None:
        return shard.sha256.startswith(UNLISTED)
    return shard.nsamples == listed.nsamples and not are_others(shard.sha256, listed.sha256)
