"""Checks a feature store: every byte, its rows, and that it matches its shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ccscale.data.shards.hashing import hash_file
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.embed.opening import check_belongs
from ccscale.errors import Fault, InputError
from ccscale.features.feature_file import FeatureFileReader, decode, view_name
from ccscale.features.listing import FeatureFile, Listing, read_listing
from ccscale.progress import Meter

NAMED = 5  # keys that a problem names


class StoreProblem(NamedTuple):
    """What is wrong with a file of a store, or with all of it."""

    place: str
    what: str


class VerifiedStore(NamedTuple):
    """What was found."""

    problems: list[StoreProblem]
    shards: str | None
    """Why the shards were not compared; None if they were."""


def verify_store(folder: str | Path, shards: str | None = None, progress: bool = True) -> VerifiedStore:
    """Read all of a store, and compare it with its listing and its shards.

    Parameters
    ----------
    folder : str or Path
        The store's.
    shards : str, optional
        Where they are now; by default where the store was made of them.
    progress : bool, default True
        Show progress.

    Raises
    ------
    InputError
        If it is no store, or `shards` are not there.
    """
    folder = Path(folder)
    listing = read_listing(folder)
    problems = []
    if not listing.complete:
        problems.append(
            StoreProblem("features.json", "it is not finished: the same `ccscale embed` continues")
        )
    manifest, reason = None, None
    try:
        manifest = Manifest.load(shards or listing.data.root)
        check_belongs(folder, listing, manifest)
    except (InputError, Fault) as error:
        if shards is not None:
            raise
        reason = str(error)
    if manifest is not None and reason is None:
        listed = {file.shard.url for file in listing.files}
        wanted = [shard.url for shard in manifest.shards if shard.split in listing.data.splits]
        missing = [url for url in wanted if url not in listed]
        if missing:
            what = f"it has no features of {len(missing)} shards, the first is {missing[0]}"
            problems.append(StoreProblem("features.json", what))
    with Meter("verifying", sum(file.bytes for file in listing.files), "bytes", progress) as meter:
        for file in listing.files:
            of = manifest if reason is None else None
            problems += [StoreProblem(file.name, what) for what in _problems(folder, listing, file, of)]
            meter.advance(file.bytes)
    return VerifiedStore(problems, reason)


def _problems(folder: Path, listing: Listing, file: FeatureFile, manifest: Manifest | None) -> Iterator[str]:
    """Yield what is wrong with a file."""
    path = folder / file.name
    try:
        if hash_file(path)[0] != file.sha256:
            yield "its SHA-256 is not the listed one: it was changed or damaged"
            return
        reader = FeatureFileReader(path)
    except OSError as error:
        yield f"it cannot be read: {error.strerror}"
        return
    except InputError as error:
        yield str(error)
        return
    views = listing.settings.views
    if reader.rows != file.rows or reader.rows != file.shard.nsamples:
        yield f"it has {reader.rows} rows, and {file.shard.nsamples} samples are in its shard"
        return
    if reader.width != listing.width or reader.schema.get_field_index(view_name(views)) < 0:
        yield f"its rows are not of {1 + views} views of {listing.width} numbers"
        return
    keys = reader.column("key")
    for view in range(views + 1):
        infinite = [
            number * listing.block + int(row)
            for number, array in enumerate(reader.arrays(view))
            for row in np.flatnonzero(~np.isfinite(decode(array.copy()).numpy()).all(axis=1))
        ]
        if infinite:
            named = ", ".join(keys[row].as_py() for row in infinite[:NAMED])
            yield f"{len(infinite)} rows of view {view} are not finite: {named}"
    if manifest is not None:
        yield from _other_samples(file, manifest, keys)


def _other_samples(file: FeatureFile, manifest: Manifest, keys: pa.ChunkedArray) -> Iterator[str]:
    shard = next(each for each in manifest.shards if each.url == file.shard.url)
    try:
        of_shard = read_index(manifest, shard).keys
    except (InputError, Fault) as error:
        yield f"its shard cannot be read: {error}"
        return
    if keys.to_pylist() != list(of_shard):
        yield f"its keys are not those of {shard.url}, in their order"
