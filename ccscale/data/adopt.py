"""``ccscale shards index``: a manifest and indexes for tars that others made. The tars stay as they are."""

import contextlib
import functools
import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ccscale.data import index, pool
from ccscale.data.hashed import HashingReader, blocks_of
from ccscale.data.index import ShardError, scan_tar, write_index
from ccscale.data.keys import Digests, digests, shared_keys
from ccscale.data.manifest import NAME, Manifest, Shard
from ccscale.data.remote import location
from ccscale.data.splits import describe, splits_of
from ccscale.data.tar import tars_below
from ccscale.errors import InputError
from ccscale.progress import Meter, say

NAMED = 10  # damaged tars that an error names


@dataclass(frozen=True, slots=True)
class _Adopted:
    """What a tar holds: its entry, digests of its keys, its number of labels and the largest of them."""

    shard: Shard
    keys: Digests
    labelled: int
    largest: int


def adopt(
    root: str | os.PathLike[str],
    split: str | Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Index every tar in a local folder and its sub-folders, and write the manifest there.

    Every tar is read once. If one is damaged, no manifest is written and no index is left behind.

    Parameters
    ----------
    root
        The folder.
    split
        The split of all tars, or ``PATTERN=NAME`` for those whose names match, or several of these; what they do
        not speak of goes by the tars' names (`splits.split_of`).
    workers
        Processes; by default one per core that this process may use.
    progress
        Whether to tell on standard error how far it is, and before anything is written which tars are of which
        split.

    Raises
    ------
    InputError
        If there are no tars, there is a manifest already, tars are damaged (which are named), two samples share a
        key, or a pattern matches no tar.
    """
    folder = location.local_or_url(root)
    if location.is_url(folder):
        raise InputError(
            f"{folder} is remote, and the indexes must be written beside the tars: index a local copy"
        )
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}")
    if os.path.exists(os.path.join(folder, NAME)):
        raise InputError(
            f"{folder} has a {NAME} already; check it with `ccscale shards verify`, or delete it"
        )
    tars = tars_below(folder)
    if not tars:
        raise InputError(f"{folder} holds no tars; make shards from images with `ccscale shards make`")
    splits = splits_of(tars, [split] if isinstance(split, str) else split)
    if progress:
        for line in describe(splits):
            say(line)
    new = [path for path in _indexes(folder, tars) if not os.path.exists(path)]
    try:
        found = _adopt_all(folder, splits, workers, progress)
    except BaseException as error:
        for path in new:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if isinstance(error, OSError):
            raise InputError(
                f"indexes cannot be written beside the tars in {folder} ({error.strerror}): make room, or index a "
                "copy that you may write to"
            ) from None
        raise
    classes = tuple(map(str, range(max(tar.largest for tar in found) + 1)))
    labelled: dict[str, int] = {}
    for tar in found:
        labelled[tar.shard.split] = labelled.get(tar.shard.split, 0) + tar.labelled
    made_by = {"kind": "index", "ccscale": importlib.metadata.version("ccscale")}
    shards = tuple(tar.shard for tar in found)
    made = Manifest(folder, Path(folder).resolve().name, shards, classes, classes, labelled, made_by)
    made.save()
    return made


def _indexes(folder: str, tars: list[str]) -> list[str]:
    return [index.index_location(os.path.join(folder, name)) for name in tars]


def _adopt_all(folder: str, splits: dict[str, str], workers: int | None, progress: bool) -> list[_Adopted]:
    """Index all tars; raise InputError that names those which cannot be."""
    tars = list(splits)
    blocks = 0
    for name in tars:
        with contextlib.suppress(OSError):  # told by name when the tar is read
            blocks += blocks_of(os.stat(os.path.join(folder, name)).st_size)
    with Meter(f"indexing {len(tars):,} tars", blocks, "MiB", progress) as meter:
        results = pool.run(functools.partial(_adopt_tar, folder), list(splits.items()), meter, workers)
    damaged = [result for result in results if isinstance(result, ShardError)]
    if damaged:
        named = "; ".join(
            f"{os.path.relpath(error.shard, folder)}: {error.what}" for error in damaged[:NAMED]
        )
        more = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        raise InputError(
            f"{len(damaged)} of the {len(tars)} tars in {folder} cannot be indexed: {named}{more}"
        )
    found = [result for result in results if isinstance(result, _Adopted)]
    if not any(tar.shard.nsamples for tar in found):
        raise InputError(f"the tars in {folder} hold no images; check the path")
    doubled = shared_keys(
        [tar.keys for tar in found], lambda number: scan_tar(os.path.join(folder, tars[number])).keys
    )
    for number, keys, home in doubled:
        raise ShardError(
            os.path.join(folder, tars[number]),
            f"two samples have the key {keys[0]!r}, the other in {tars[home]}",
        )
    return found


def _adopt_tar(folder: str, tar: tuple[str, str], tick: pool.Tick) -> _Adopted | ShardError:
    """Index one tar of a split, or return what is wrong with it; runs in a worker process."""
    name, split = tar
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as file:
            hashing = HashingReader(file, tick)
            samples = scan_tar(cast(BinaryIO, hashing), path)
            sha256, size = hashing.finish()
    except ShardError as error:
        return error
    except OSError as error:
        return ShardError(path, f"it cannot be read: {error.strerror}")
    write_index(index.index_location(path), samples)
    known = samples.labels[samples.labels != index.UNKNOWN]
    shard = Shard(name, len(samples), size, sha256, split)
    return _Adopted(shard, digests(samples.keys), len(known), int(np.max(known, initial=-1)))
