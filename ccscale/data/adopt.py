"""``ccscale shards index``: a manifest and indexes for tars that others made. The tars stay as they are."""

import functools
import hashlib
import importlib.metadata
import os
import re
from pathlib import Path

import numpy as np

from ccscale.data import index, location, pool
from ccscale.data.index import ShardError, scan_tar, write_index
from ccscale.data.manifest import NAME, Manifest, Shard
from ccscale.errors import InputError
from ccscale.progress import Meter

_SPLIT = re.compile(r"([A-Za-z]\w*?)[-_]?\d+\.tar")  # train-000000.tar; 00000.tar has no split in its name


def adopt(
    root: str | os.PathLike[str], split: str | None = None, workers: int | None = None, progress: bool = True
) -> Manifest:
    """Index every tar in a local folder and write the manifest beside them.

    Parameters
    ----------
    root
        The folder.
    split
        The split of all tars; by default what their names begin with (``val-000000.tar``), else ``train``.
    workers
        Processes; by default one per core that this process may use.
    progress
        Whether to tell on standard error how far it is.

    Raises
    ------
    InputError
        If there are no tars, there is a manifest already, a tar is damaged, or two samples share a key.
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
    tars = [name for name in location.list_names(folder) if name.endswith(".tar")]
    if not tars:
        raise InputError(f"{folder} holds no tars; make shards from images with `ccscale shards make`")
    with Meter("indexing", len(tars), "shards", progress) as meter:
        found = pool.run(functools.partial(_adopt_tar, folder, split), tars, meter, workers)
    _check_keys(folder, [shard.url for shard, _, _ in found])
    classes = tuple(map(str, range(max((top for _, _, top in found), default=-1) + 1)))
    labelled: dict[str, int] = {}
    for shard, labels, _ in found:
        labelled[shard.split] = labelled.get(shard.split, 0) + labels
    made_by = {"kind": "index", "ccscale": importlib.metadata.version("ccscale")}
    shards = tuple(shard for shard, _, _ in found)
    made = Manifest(folder, Path(folder).resolve().name, shards, classes, classes, labelled, made_by)
    made.save()
    return made


def _adopt_tar(folder: str, split: str | None, name: str, tick: pool.Tick) -> tuple[Shard, int, int]:
    """Index one tar; return its entry, its number of labels and the largest label; runs in a worker process."""
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    samples = scan_tar(path)
    write_index(index.index_location(path), samples)
    tick()
    match = _SPLIT.fullmatch(name)
    of = split or (match[1] if match else "train")
    known = samples.labels[samples.labels != index.UNKNOWN]
    return Shard(name, len(samples), size, sha256, of), len(known), int(np.max(known, initial=-1))


def _check_keys(folder: str, tars: list[str]) -> None:
    """Refuse a key that is in two tars."""
    homes: dict[str, str] = {}
    for name in tars:
        with open(index.index_location(os.path.join(folder, name)), "rb") as file:
            for key in index.from_parquet(file.read()).keys:
                if key in homes:
                    raise ShardError(
                        os.path.join(folder, name),
                        f"two samples have the key {key!r}, the other in {homes[key]}",
                    )
                homes[key] = name
