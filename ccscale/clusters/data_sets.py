"""Finds the shards that are new to a lineage, and the name of their data set."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from ccscale.clusters.version import DataSet, TableFile
from ccscale.data.remote import location
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.shard_watch import are_others
from ccscale.errors import InputError
from ccscale.features.listing import LISTING, read_listing

STORES = "features"


def name_data(
    clusters: Path,
    known: Collection[DataSet],
    tables: Collection[TableFile],
    name: str,
    root: str,
    shards: Sequence[Shard],
) -> DataSet:
    """Return the data set of shards: a known one, if it is from the same place or has some of them; else a new one.

    Two data sets may have one name: the second gets a number behind it.
    """
    name, place = name or "images", _place(root)
    contents = {shard.sha256 for shard in shards}
    with_some = {table.data for table in tables if table.shard.sha256 in contents}
    for one in known:
        if one.root == place or one.name in with_some:
            return DataSet(name=one.name, root=place)
    taken, number = {one.name for one in known}, 1
    while True:
        tried = name if number == 1 else f"{name}~{number}"
        store = store_of(clusters, tried)
        is_free = not (store / LISTING).exists() or _place(read_listing(store).data.root) == place
        if tried not in taken and is_free:
            return DataSet(name=tried, root=place)
        number += 1


def with_data(known: Sequence[DataSet], data: DataSet) -> tuple[DataSet, ...]:
    """Return the known data sets with one added, or in the place of the one of its name."""
    return tuple({one.name: one for one in (*known, data)}.values())


def store_of(clusters: Path, name: str) -> Path:
    """Return where an update makes the store of a data set."""
    return clusters / STORES / name.replace("/", "%2F").replace(".", "%2E")


def new_shards(tables: Collection[TableFile], data: str, shards: Sequence[Shard]) -> list[Shard]:
    """Return those shards of a data set that have no table yet; empty ones are none.

    Raises
    ------
    InputError
        If one has, and had other contents then.
    """
    known = {table.shard.url: table.shard for table in tables if table.data == data}
    for shard in shards:
        before = known.get(shard.url, shard)
        if before.nsamples != shard.nsamples or are_others(before.sha256, shard.sha256):
            raise InputError(
                f"{shard.url} of the data set {data!r} has changed since its images were assigned. Shards "
                "must not change after that: put new images into new shards, or into a folder with "
                "another name"
            )
    return [shard for shard in shards if shard.url not in known and shard.nsamples]


def _place(root: str) -> str:
    """Return where shards are, however the folder was named."""
    root = location.local_or_url(root)
    return root if location.is_url(root) else os.path.realpath(root)
