"""Creates a store, or checks that an existing one can be continued: same settings, same shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccscale.config import Views
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.shard_watch import are_others
from ccscale.embed.backbone import CONFIG, Backbone
from ccscale.embed.parts_store import FOLDER as PARTS
from ccscale.errors import Fault, InputError
from ccscale.features.listing import LISTING, ROWS, ListedDataSet, Listing, Settings, read_listing
from ccscale.features.store_config import BACKBONE

PEOPLE = ("origin",)  # of the settings: what is told, and changes nothing


def open_store(folder: Path, settings: Settings, backbone: Backbone, root: str) -> Listing:
    """Begin a store, or check that one can be continued; on one rank.

    Parameters
    ----------
    folder
        The store's; it is there.
    settings, backbone
        What the features depend on.
    root
        Of the shards.

    Raises
    ------
    InputError
        If the folder holds something else, or features that were made otherwise, naming what differs.
    Fault
        If it cannot be written.
    """
    if (folder / LISTING).exists():
        found = read_listing(folder)
        if different := list(_differences(found.settings, settings)):
            raise InputError(
                f"{folder} has features made with other settings: {'; '.join(different)}; delete it, or "
                "choose another folder"
            )
        return found
    ours = {BACKBONE, CONFIG, PARTS, f"{LISTING}.part", f"{CONFIG}.part"}  # of a rank that was killed
    if any(not entry.name.startswith(".") and entry.name not in ours for entry in folder.iterdir()):
        raise InputError(f"{folder} is neither empty nor a feature store; choose another folder")
    listing = Listing(
        settings=settings,
        width=backbone.width,
        block=ROWS,
        data=ListedDataSet(root=root, name="", splits=(), digest=""),
    )
    try:
        backbone.save(folder, folder / PARTS)
        listing.save(folder)
    except OSError as error:
        raise Fault(f"{folder} cannot be written: {error.strerror or error}; free some space") from None
    return listing


def _differences(before: Settings, now: Settings) -> Iterator[str]:
    for name, value in now.model_dump(mode="json").items():
        old: Any = getattr(before, name)
        if name == "view_settings" and old is not None:
            old = (
                Views().model_dump(mode="json") | old
            )  # a key that there was not then does nothing by default
        if name in PEOPLE or old == value:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            keys = [key for key in {**old, **value} if old.get(key) != value.get(key)]
            yield from (f"{name}.{key} was {old.get(key)!r} and is now {value.get(key)!r}" for key in keys)
        elif name == "weights":
            yield f"its weights were others ({before.origin}), and are now of {now.origin}"
        else:
            yield f"{name} was {old!r} and is now {value!r}"


def check_belongs(folder: Path, listing: Listing, manifest: Manifest) -> None:
    """Refuse a store with features of shards that a data set does not have, or has with other contents.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    there = {shard.url: shard for shard in manifest.shards}
    for file in listing.files:
        shard = there.get(file.shard.url)
        if shard is None:
            why = f"{file.shard.url}, which {manifest.root} does not have"
        elif shard.nsamples != file.shard.nsamples or are_others(shard.sha256, file.shard.sha256):
            why = f"{file.shard.url} with other contents than it has in {manifest.root}"
        else:
            continue
        data = listing.data
        raise InputError(
            f"{folder} does not belong to these shards: it has features of {why}; it was made from "
            f"{data.name!r} in {data.root}: give those shards, or another folder"
        )
