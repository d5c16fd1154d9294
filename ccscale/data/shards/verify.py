"""Checks shards against their manifest, and tells what they hold."""

import functools
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

from ccscale import pool
from ccscale.data.remote import location
from ccscale.data.remote.access import Access
from ccscale.data.remote.fetch import Fetcher
from ccscale.data.shards import index
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.hashing import HashingReader, blocks_of
from ccscale.data.shards.index import ShardIndex, read_index
from ccscale.data.shards.keys import Digests, digests, shared_keys
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest import NAME, Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.scan import scan
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.shards.tar_listing import tars_below
from ccscale.progress import Meter
from ccscale.regular import regular


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a shard, or with the data set where `shard` is ``dataset.json``."""

    shard: str
    what: str


@dataclass(frozen=True, slots=True)
class VerifiedShards:
    """The result of verifying a data set.

    Attributes
    ----------
    problems
        All of them.
    passed
        The tars' members that are in no sample.
    """

    problems: list[Problem]
    passed: SkippedFiles


@dataclass(frozen=True, slots=True)
class _Checked:
    """The result of verifying one shard: problems, 64-bit digests of its keys, number of labels, skipped files."""

    problems: list[Problem]
    keys: Digests
    labelled: int
    passed: SkippedFiles


def verify(
    root: str | os.PathLike[str], workers: int | None = None, progress: bool = False
) -> VerifiedShards:
    """Check every shard of a data set against the manifest.

    Each shard exists, has the manifest's size and SHA-256, reads as a tar to its end with the manifest's number
    of samples, agrees with its index, and has labels within the classes. Keys are unique over the data set, and
    no tar lies beside the shards that the manifest does not list.

    Parameters
    ----------
    root
        A local folder or an fsspec URL.
    workers
        Processes, each on one shard at a time; by default one per core that this process may use.
    progress
        Whether to show progress on standard error.

    Raises
    ------
    InputError
        If there is no valid manifest.
    """
    manifest = Manifest.load(root)
    blocks = sum(blocks_of(shard.filesize) for shard in manifest.shards)
    with Meter("verifying", blocks, "MiB", progress) as meter:
        results = pool.run(functools.partial(_check_shard, manifest), manifest.shards, meter, workers)
    problems = [problem for result in results for problem in result.problems]
    for number, doubles, home in shared_keys(
        [result.keys for result in results], functools.partial(_keys, manifest)
    ):
        what = (
            f"{len(doubles)} keys are in other shards too, as {doubles[0]!r} in {manifest.shards[home].url}"
        )
        problems.append(Problem(manifest.shards[number].url, what))
    # A shard that could not be read is a problem already, and would only make its split's count wrong as well.
    unread = {
        shard.split for shard, result in zip(manifest.shards, results, strict=True) if not len(result.keys)
    }
    for split in manifest.splits:
        found = sum(r.labelled for s, r in zip(manifest.shards, results, strict=True) if s.split == split)
        expected = manifest.labelled.get(split, 0)
        if split not in unread and found != expected:
            problems.append(
                Problem(NAME, f"the split {split} has {found} labels, and {expected} in the manifest")
            )
    if manifest.is_local:
        listed = {shard.url for shard in manifest.shards}
        strays = [name for name in tars_below(manifest.root) if name not in listed]
        problems += [Problem(name, "the manifest does not list it") for name in strays]
    return VerifiedShards(problems, SkippedFiles.together(result.passed for result in results))


def info(root: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a data set, from its manifest and indexes, ready for JSON.

    Returns
    -------
    dict
        ``name``, ``root``, ``kind``, ``samples``, ``shards``, ``bytes``, ``labelled``; ``splits``: split to
        ``samples``, ``shards``, ``bytes`` and ``labelled``; ``classes``: a list of ``label``, ``name``, ``id`` and
        ``samples`` (split to count); ``extensions``: image format to count; ``pixels``: what was measured of
        images of channels (`PixelFacts`), where they are kept as they are stored.

    Raises
    ------
    InputError
        If there is no valid manifest, or a shard's index cannot be read.
    """
    manifest = Manifest.load(root)
    splits: dict[str, dict[str, int]] = {
        split: {"samples": samples, "shards": shards, "bytes": 0, "labelled": manifest.labelled.get(split, 0)}
        for split, (samples, shards) in manifest.splits.items()
    }
    extensions: Counter[str] = Counter()
    labels: dict[str, Counter[int]] = {split: Counter() for split in splits}
    for shard in manifest.shards:
        splits[shard.split]["bytes"] += shard.filesize
        rows = read_index(manifest, shard)
        extensions.update(rows.exts)
        labels[shard.split].update(rows.labels.tolist())
    return {
        "name": manifest.name,
        "root": manifest.root,
        "kind": manifest.made_by.get("kind"),
        **{
            what: sum(split[what] for split in splits.values())
            for what in ("samples", "shards", "bytes", "labelled")
        },
        "splits": splits,
        "classes": [
            {
                "label": label,
                "name": name,
                "id": id_,
                "samples": {split: labels[split][label] for split in splits},
            }
            for label, (name, id_) in enumerate(zip(manifest.classes, manifest.class_ids, strict=True))
        ],
        "extensions": dict(sorted(extensions.items())),
        **({} if manifest.pixels is None else {"pixels": manifest.pixels.model_dump(mode="json")}),
    }


def _check_shard(manifest: Manifest, shard: Shard, tick: pool.Tick) -> _Checked:
    """Check one shard; runs in a worker process."""
    place = manifest.locate(shard)
    whats: list[str] = []
    keys, labelled, passed = np.empty(0, np.uint64), 0, SkippedFiles()
    try:
        fetcher = Fetcher(Access())
        with _opened(place, shard, fetcher) as file:
            hashing = HashingReader(file, tick)
            try:
                read = scan(cast(BinaryIO, hashing), place, manifest.labelling.field)
            finally:
                digest, size = hashing.finish()
                if size != shard.filesize:
                    whats.append(f"it has {size} bytes, and {shard.filesize} in the manifest")
                elif digest != shard.sha256:
                    whats.append(
                        f"its bytes have changed: SHA-256 {digest}, and {shard.sha256} in the manifest"
                    )
        passed = read.passed
        found = index.indexed(read, place, manifest.labelling)
        keys, labelled = digests(found.keys), int((found.labels != UNKNOWN).sum())
        if len(found) != shard.nsamples:
            whats.append(f"it holds {len(found)} samples, and {shard.nsamples} in the manifest")
        whats += _check_labels(found, manifest)
        whats += _check_index(found, place, shard, fetcher)
    except FileNotFoundError:
        whats.append("the shard is missing")
    except ShardError as error:
        whats.append(error.what)
    # Whatever a file system behind fsspec raises is a problem of this shard, and the others are examined still.
    except Exception as error:
        whats.append(f"the shard cannot be read: {' '.join(str(error).split()) or type(error).__name__}")
    return _Checked([Problem(shard.url, what) for what in whats], keys, labelled, passed)


def _keys(manifest: Manifest, number: int) -> list[str]:
    shard = manifest.shards[number]
    place = manifest.locate(shard)
    with _opened(place, shard, Fetcher(Access())) as file:
        return [sample.key for sample in scan(file, place, manifest.labelling.field).samples]


def _opened(place: str, shard: Shard, fetcher: Fetcher) -> BinaryIO:
    if location.is_url(place):
        return fetcher.open(shard.behind(place))
    return open(place, "rb", opener=regular)


def _check_labels(found: ShardIndex, manifest: Manifest) -> list[str]:
    beyond = np.flatnonzero(found.labels >= len(manifest.classes))
    if not manifest.classes or not len(beyond):
        return []
    first = beyond[0]
    return [
        f"{len(beyond)} labels are beyond the {len(manifest.classes)} classes, as the label {found.labels[first]} "
        f"of {found.keys[first]!r}"
    ]


def _check_index(found: ShardIndex, place: str, shard: Shard, fetcher: Fetcher) -> list[str]:
    beside = index.index_location(place)
    try:
        if location.is_url(place):
            data = fetcher.index(beside, shard.sha256, make=_no_index)
        else:
            with open(beside, "rb") as file:
                data = file.read()
        kept = index.from_parquet(data)
    except FileNotFoundError:
        return []  # readers scan the shard instead
    except Exception as error:
        return [f"its index cannot be read: {' '.join(str(error).split())}"]
    return [] if kept.same_as(found) else ["its index does not agree with the tar: delete the index"]


def _no_index() -> bytes:
    raise FileNotFoundError
