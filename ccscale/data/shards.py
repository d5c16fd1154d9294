"""Writes a source's images into shards, in any number of processes with the same bytes.

    OUT/train-000000.tar            <key>.jpg, <key>.cls, <key>.json, <key>.jpg, …
    OUT/train-000000.index.parquet  written after its shard: where it is, the shard is whole
    OUT/rejected.csv                images that cannot be decoded; only if there are any
    OUT/making.json                 digest of the plan while the shards are being written
    OUT/dataset.json                the manifest, written last

All is planned first: `plan_shards` is a pure function of the names and the seed. Each shard then depends on its
own plan alone and appears under its name when it is whole.
"""

import contextlib
import csv
import functools
import importlib.metadata
import io
import json
import os
import warnings
from dataclasses import asdict, dataclass

from ccscale import atomic
from ccscale.data import index, location, manifest, pool
from ccscale.data.images import Recipe, prepare
from ccscale.data.manifest import Manifest, Shard
from ccscale.data.plan import ShardPlan, affordable_samples, plan_digest, plan_shards
from ccscale.data.sources import Item, Source
from ccscale.data.tar import TarWriter
from ccscale.errors import BadImage, InputError
from ccscale.progress import Meter

REJECTED = "rejected.csv"
MAKING = "making.json"


@dataclass(frozen=True, slots=True)
class _Rejected:
    split: str
    key: str
    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of a plan; `shard` is None where no image of it could be read."""

    shard: Shard | None
    labelled: int
    rejected: list[_Rejected]


def make_shards(
    source: Source,
    out: str | os.PathLike[str],
    *,
    shard_samples: int | None = None,
    shard_bytes: int = 256 * 2**20,
    resize: int | None = None,
    format: str | None = None,
    quality: int = 95,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Write a source's images into shards and return their manifest.

    Every image is decoded once to check it. Those that fail are listed in ``rejected.csv`` and left out. The
    bytes of the others are kept, unless `resize` or `format` asks for something else or the format is none of
    JPEG, PNG and WebP: then they become PNG. The output is the same for any number of workers.

    Parameters
    ----------
    source
        From `ccscale.data.sources.open_source`.
    out
        A local folder, made if need be.
    shard_samples
        The most samples in a shard; a split's shards are of equal size, up to one sample. By default 10,000, or
        fewer where these would pass `shard_bytes`.
    shard_bytes
        The size in bytes that a shard is to stay near to, judged from some of the images.
    resize
        Length in pixels that the short side is reduced to, where it is longer.
    format
        ``"jpg"``, ``"png"`` or ``"webp"`` for all images.
    quality
        1 to 100, for what is encoded anew as JPEG or WebP.
    seed
        Of the order of the samples, 0 or more.
    workers
        Processes; by default one per core that this process may use. More than one needs a program that can be
        imported (``if __name__ == "__main__":``).
    progress
        Whether to tell on standard error how far it is.

    Raises
    ------
    InputError
        If an option is out of range, `out` cannot take the shards, or no image can be read.
    """
    recipe = Recipe(resize, format, quality)
    if shard_samples is not None and shard_samples < 1:
        raise InputError(f"shard_samples is {shard_samples}: a shard holds at least 1 sample")
    if shard_bytes < 1:
        raise InputError(f"shard_bytes is {shard_bytes}: give at least 1 byte")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")
    folder = location.local_or_url(out)
    _check_out(source, folder)

    plans = plan_shards(source, seed, shard_samples, affordable_samples(source, recipe, shard_bytes))
    options = {**asdict(recipe), "seed": seed, "shard_samples": shard_samples}
    _begin(folder, plan_digest(plans, options))
    with Meter("writing shards", sum(len(plan.items) for plan in plans), "images", progress) as meter:
        written = pool.run(functools.partial(_write_shard, folder, recipe), plans, meter, workers)
    rejected = sorted(
        (line for result in written for line in result.rejected), key=lambda line: (line.split, line.key)
    )
    shards = tuple(result.shard for result in written if result.shard is not None)
    if not shards:
        os.unlink(os.path.join(folder, MAKING))
        first = rejected[0]
        raise InputError(
            f"none of the {len(rejected):,} images of {source.name} can be read (the first, {first.origin}: "
            f"{first.reason}); check the source"
        )

    _write_rejected(os.path.join(folder, REJECTED), rejected)
    labelled = dict.fromkeys(source.splits, 0)
    for plan, result in zip(plans, written, strict=True):
        labelled[plan.split] += result.labelled
    made_by = {
        "kind": source.kind,
        "options": options,
        "ccscale": importlib.metadata.version("ccscale"),
        "rejected": len(rejected),
    }
    made = Manifest(folder, source.name, shards, source.classes, source.class_ids, labelled, made_by)
    made.save()
    os.unlink(os.path.join(folder, MAKING))
    return made


def _check_out(source: Source, out: str) -> None:
    """Refuse a folder that shards would harm or be harmed in."""
    if location.is_url(out):
        raise InputError(f"shards are written to a local folder, not to {out}: copy them there afterwards")
    if os.path.exists(out) and not os.path.isdir(out):
        raise InputError(f"{out} is a file: name a folder for the shards")
    if os.path.exists(os.path.join(out, manifest.NAME)):
        raise InputError(f"{out} already holds a data set: choose another folder, or delete it first")
    above = os.path.join(os.path.realpath(out), "")
    for items in source.splits.values():
        if any(item.content.path is not None and item.content.path.startswith(above) for item in items):
            raise InputError(f"{out} holds the images themselves: name another folder for the shards")


def _begin(out: str, digest: str) -> None:
    """Make the folder and note the plan in it; refuse tars that another plan, or somebody else, has left there."""
    path = os.path.join(out, MAKING)
    note = json.dumps({"plan": digest}).encode() + b"\n"
    try:
        os.makedirs(out, exist_ok=True)
        if any(name.endswith(".tar") for name in os.listdir(out)):
            try:
                with open(path, "rb") as file:
                    ours = file.read() == note
            except FileNotFoundError:
                raise InputError(
                    f"{out} holds tars of others: choose another folder, or delete them"
                ) from None
            if not ours:
                raise InputError(
                    f"{out} holds unfinished shards of another source or other options: choose another folder, "
                    "or delete it first"
                )
        atomic.write_bytes(path, note)
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error.strerror}): choose another folder") from None


def _write_shard(out: str, recipe: Recipe, plan: ShardPlan, tick: pool.Tick) -> _Written:
    """Write one shard and then its index; runs in a worker process."""
    rows: list[index.Row] = []
    rejected: list[_Rejected] = []
    path = os.path.join(out, plan.name)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow's, about large images and odd metadata: the image is read or not
        try:
            with atomic.replacing(path) as file:
                tar = TarWriter(file)
                for item in plan.items:
                    tick()
                    try:
                        rows.append(_add_sample(tar, item, plan.split, recipe))
                    except BadImage as error:
                        rejected.append(_Rejected(plan.split, item.key, item.origin, str(error)))
                tar.finish()
                if not rows:
                    raise _NothingLeft
        except _NothingLeft:
            return _Written(None, 0, rejected)
    index.write_index(index.index_location(path), index.ShardIndex.from_rows(rows))
    labelled = sum(row[-1] != index.UNKNOWN for row in rows)
    return _Written(Shard(plan.name, len(rows), tar.size, tar.sha256, plan.split), labelled, rejected)


class _NothingLeft(Exception):
    """No image of a shard can be read: the shard is given up."""


def _add_sample(tar: TarWriter, item: Item, split: str, recipe: Recipe) -> index.Row:
    """Append a sample and return its row of the index."""
    try:
        original = item.content.read()
    except OSError as error:
        raise BadImage(f"the file cannot be read: {error.strerror}") from None
    data, extension = prepare(original, recipe)
    offset = tar.add(f"{item.key}.{extension}", data)
    if item.label is not None:
        tar.add(f"{item.key}.cls", str(item.label).encode())
    facts = {"origin": item.origin, "split": split}
    tar.add(f"{item.key}.json", json.dumps(facts, ensure_ascii=False).encode())
    return item.key, extension, offset, len(data), index.UNKNOWN if item.label is None else item.label


def _write_rejected(path: str, rejected: list[_Rejected]) -> None:
    if not rejected:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a run that was killed
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["split", "key", "origin", "reason"])
    table.writerows([line.split, line.key, line.origin, line.reason] for line in rejected)
    atomic.write_bytes(path, text.getvalue().encode())
