"""Makes shards of a source's images, in any number of processes and after any number of kills with the same bytes.

    OUT/train-000000.tar            <key>.jpg, <key>.cls, <key>.json, <key>.jpg, …
    OUT/train-000000.index.parquet  where the images lie in the tar
    OUT/rejected.csv                images that cannot be decoded; only if there are any
    OUT/duplicates.csv              images left out by `dedup`; only if there are any
    OUT/dataset.json                the manifest, written last
    OUT/.ccscale-making/            notes while the shards are being made (`notes.py`)

All is planned first: `plan_shards` is a pure function of the names and the seed. Each shard then depends on its
own plan alone and appears under its name when it is whole.
"""

import contextlib
import csv
import errno
import functools
import importlib.metadata
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from ccscale import atomic, pool
from ccscale.data.making.again import (
    is_outdated,
    listed_as_rejected,
    may_be_read_now,
    records_of,
    try_again,
    with_new_reasons,
)
from ccscale.data.making.duplicates import Duplicate, without_duplicates
from ccscale.data.making.images import Recipe
from ccscale.data.making.kept import Kept, is_costly
from ccscale.data.making.notes import REJECTED, Making, Record, Rejected, begin, check_folder, remove_notes
from ccscale.data.making.plan import (
    ShardPlan,
    affordable_samples,
    plan_digest,
    plan_shards,
    request_digest,
    sampled,
)
from ccscale.data.making.shard_writer import write_shard
from ccscale.data.remote import location
from ccscale.data.shards import manifest
from ccscale.data.shards.hashing import blocks_of
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.cells import Cell
from ccscale.data.sources.items import Source
from ccscale.errors import Fault, InputError
from ccscale.progress import Meter, say
from ccscale.spreadsheet import cell

DUPLICATES = "duplicates.csv"
FEW_BLOCKS = 512


def make_shards(
    source: Source,
    out: str | os.PathLike[str],
    *,
    shard_samples: int | None = None,
    shard_bytes: int = 256 * 2**20,
    resize: int | None = None,
    format: str | None = None,
    quality: int = 95,
    dedup: bool = False,
    strict: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Write a source's images into shards and return their manifest.

    Every image is decoded once to check it. Those that fail are listed in ``rejected.csv`` and left out. The
    bytes of the others are kept, unless `resize` or `format` asks for something else or the format is none of
    JPEG, PNG and WebP: then they become PNG. The output is the same for any number of workers.

    Called again after it was stopped or killed it goes on, and keeps the shards that are whole; called again after
    it was done, it returns the manifest that is there. Either tries again what could not be read for a reason that
    may pass (``temporary`` in the list; ``made_by["temporary"]`` counts them) and files that were mended since, and
    makes the shards anew that lacked one.

    Parameters
    ----------
    source
        From `ccscale.data.sources.kinds.open_source`.
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
    dedup
        Leave out images whose files have the same bytes as one before them, in the order of the splits and then
        of their images; they are listed in ``duplicates.csv``.
    strict
        Refuse a source beside whose images lies something that is passed over, or some of which need other keys
        than their names.
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
    Fault
        If the disk is full, the source cannot be read any more, or a worker process was killed. The same call goes
        on when that is put right.
    """
    recipe = Recipe(resize, format, quality)
    if shard_samples is not None and shard_samples < 1:
        raise InputError(f"shard_samples is {shard_samples}: a shard holds at least 1 sample")
    if shard_bytes < 1:
        raise InputError(f"shard_bytes is {shard_bytes}: give at least 1 byte")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")
    pool.check_workers(workers)
    _tell_oddities(source, strict, progress)
    folder = location.local_or_url(out)
    options = {
        **asdict(recipe),
        "dedup": dedup,
        "seed": seed,
        "shard_samples": shard_samples,
        "shard_bytes": shard_bytes,
    }
    request = request_digest(source, options)
    made = _made_before(folder, request)
    left_out = [] if made is None else listed_as_rejected(folder)
    if made is not None:
        if not may_be_read_now(source, left_out, recipe):
            remove_notes(folder)
            if progress:
                say(f"{folder} holds these shards already: the same images by name, the same options")
            return made
    else:
        _check_out(source, folder)
        check_folder(folder, request)
    try:
        with begin(folder, request, reopen=made is not None) as making:
            kept = Kept(making)
            try_again(source, left_out or making.rejected(), kept, recipe, workers, progress)
            if made is not None and not _changes(left_out, kept):
                making.remove_kept()
                return made
            in_cells = [
                (split, item)
                for split, items in source.splits.items()
                for item in items
                if isinstance(item.content, Cell) and not kept.knows(item)
            ]
            kept.read(in_cells, recipe, "reading images", workers, progress)
            images, duplicates = source, None
            if dedup:
                images, duplicates = without_duplicates(source, making, kept, recipe, workers, progress)
            affordable = _affordable(images, recipe, shard_bytes, making, kept, workers, progress)
            plans = plan_shards(images, seed, shard_samples, affordable)
            making.pin_plan(plan_digest(plans), made is not None or bool(kept.images))
            if made is not None:
                records_of(made, left_out, plans)
                making.reopen()
            records = _write_all(folder, recipe, plans, making, kept, workers, progress)
            made = _finish(source, folder, plans, records, duplicates, options, request)
            if made.made_by.get("temporary"):
                making.remove_kept()
            else:
                remove_notes(folder)
            return made
    except OSError as error:
        what = f"{error.filename or folder} cannot be written to ({error.strerror})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE):
            again = "start the same command again when it can be, which keeps the shards that are whole"
            raise Fault(f"{what}: {again}") from None
        raise InputError(f"{what}: put that right, or choose another folder") from None


def _tell_oddities(source: Source, strict: bool, progress: bool) -> None:
    """Say what of a source is passed over or renamed, or refuse it."""
    told = [str(source.passed)] if source.passed.kinds else []
    told += source.renamed
    if told and strict:
        raise InputError(f"{'; '.join(told)}: --strict refuses that; put it right, or leave out --strict")
    if progress:
        for sentence in told:
            say(sentence)


def _made_before(out: str, request: str) -> Manifest | None:
    """Return the manifest that the same call has written; refuse a folder with another data set."""
    if location.is_url(out) or not os.path.exists(os.path.join(out, manifest.NAME)):
        return None
    try:
        made = Manifest.load(out)
    except InputError:
        made = None
    if made is None or made.made_by.get("request") != request:
        raise InputError(f"{out} already holds a data set: choose another folder, or delete it first")
    made.check_files(made.splits)
    return made


def _changes(left_out: list[Rejected], kept: Kept) -> bool:
    """Tell whether any of the images that were left out can be read now, or is left out for another reason."""
    return any(line.key in kept.images or kept.failed.get(line.key, line) != line for line in left_out)


def _affordable(
    source: Source,
    recipe: Recipe,
    shard_bytes: int,
    making: Making,
    kept: Kept,
    workers: int | None,
    progress: bool,
) -> int:
    """Estimate how many samples make a shard; what must be fetched for that is kept."""
    some = sampled(source, recipe)
    sizes = making.sizes()
    costly = [(split, item) for split, item in some if is_costly(item) and item.key not in sizes]
    if recipe.keeps_bytes:
        costly = [(split, item) for split, item in costly if isinstance(item.content, Cell)]
    unread = [(split, item) for split, item in costly if not kept.knows(item)]
    kept.read(unread, recipe, "looking at sizes", workers, progress)
    for _, item in costly:
        if item.key in kept.images:
            sizes[item.key] = kept.images[item.key].size
        elif not kept.failed[item.key].temporary:
            sizes[item.key] = 0
    if sizes:
        making.note_sizes(sizes)
    return affordable_samples((item for _, item in some), recipe, shard_bytes, sizes)


def _check_out(source: Source, out: str) -> None:
    """Refuse a folder that shards would harm or be harmed in."""
    if location.is_url(out):
        raise InputError(f"shards are written to a local folder, not to {out}: copy them there afterwards")
    if os.path.exists(out) and not os.path.isdir(out):
        raise InputError(f"{out} is a file: name a folder for the shards")
    above = os.path.join(os.path.realpath(out), "")
    for items in source.splits.values():
        if any(item.content.path is not None and item.content.path.startswith(above) for item in items):
            raise InputError(f"{out} holds the images themselves: name another folder for the shards")


def _write_all(
    out: str,
    recipe: Recipe,
    plans: list[ShardPlan],
    making: Making,
    kept: Kept,
    workers: int | None,
    progress: bool,
) -> list[Record]:
    """Write the shards that are not there yet; return the records of all, in the order of the plans."""
    records: dict[str, Record] = {}
    if making.resumed:
        making.remove_leftovers([plan.name for plan in plans], [REJECTED, DUPLICATES, manifest.NAME])
        records = _whole(out, plans, making, kept, workers, progress)
    todo = [
        ShardPlan(plan.name, plan.split, [kept.content_of(item) for item in plan.items])
        for plan in plans
        if plan.name not in records
    ]
    done = sum(len(plan.items) for plan in plans if plan.name in records)
    with Meter("writing shards", sum(len(plan.items) for plan in plans), "images", progress, done) as meter:
        written = pool.run(functools.partial(write_shard, out, recipe), todo, meter, workers, making.lock)
    records |= {plan.name: record for plan, record in zip(todo, written, strict=True)}
    return [records[plan.name] for plan in plans]


def _whole(
    out: str, plans: list[ShardPlan], making: Making, kept: Kept, workers: int | None, progress: bool
) -> dict[str, Record]:
    """Return the records of the shards that an earlier call has made, by name, if they hold what they are to hold.

    Those that are whole and are to hold something else are moved to what is kept.
    """
    planned = {plan.name: plan for plan in plans}
    remote = {item.key for plan in plans for item in plan.items if is_costly(item)}
    records = making.records()
    blocks = sum(blocks_of(record.shard.filesize) for record in records.values() if record.shard)
    few = blocks < FEW_BLOCKS  # read before the processes would have started
    with Meter("checking what is there", blocks, "MiB", progress and not few) as meter:
        check = functools.partial(_holds, out)
        holds = pool.run(check, list(records.values()), meter, 1 if few else workers, making.lock)
    whole, damaged = {}, []
    for (name, record), sound in zip(records.items(), holds, strict=True):
        current = with_new_reasons(record, kept)
        if not sound:
            damaged.append(name)
        elif name not in planned or is_outdated(record, kept) or not record.follows(out, planned[name]):
            far = [line for line in current.rejected if line.key in remote]
            kept.take_in(None if record.shard is None else os.path.join(out, name), far)
            making.forget(name)
        else:
            whole[name] = current
            if current != record:
                current.save(out, name)
    if progress:
        again = f" ({', '.join(damaged)} have changed and are made again)" if damaged else ""
        say(f"going on: {len(whole):,} of {len(plans):,} shards are there{again}")
    return whole


def _holds(out: str, record: Record, tick: pool.Tick) -> bool:
    return record.holds(out, tick)


def _finish(
    source: Source,
    out: str,
    plans: list[ShardPlan],
    records: list[Record],
    duplicates: list[Duplicate] | None,
    options: dict[str, Any],
    request: str,
) -> Manifest:
    """Write the lists of what was left out, and then the manifest."""
    rejected = sorted(line for record in records for line in record.rejected)
    temporary = sum(bool(line.temporary) for line in rejected)
    shards = tuple(record.shard for record in records if record.shard is not None)
    if not shards:
        first = rejected[0]
        what = (
            f"none of the {len(rejected):,} images of {source.name} can be read (the first, {first.origin}: "
            f"{first.reason})"
        )
        if temporary:
            raise Fault(f"{what}, {temporary:,} of them perhaps for now: start the same command again later")
        raise InputError(f"{what}; check the source")
    _write_table(os.path.join(out, REJECTED), Rejected, rejected)
    _write_table(os.path.join(out, DUPLICATES), Duplicate, duplicates or [])
    labelled = {shard.split: 0 for shard in shards}
    for plan, record in zip(plans, records, strict=True):
        if record.shard is not None:
            labelled[plan.split] += record.labelled
    made_by: dict[str, Any] = {
        "kind": source.kind,
        "options": options,
        "ccscale": importlib.metadata.version("ccscale"),
        "rejected": len(rejected),
    }
    if temporary:
        made_by["temporary"] = temporary
    if duplicates is not None:
        conflicts = sum(bool(line.conflict) for line in duplicates)
        made_by |= {"duplicates": len(duplicates), "conflicting_labels": conflicts}
    made_by["request"] = request
    made = Manifest(out, source.name, shards, source.classes, source.class_ids, labelled, made_by)
    made.save()
    return made


def _write_table(path: str, row: type[NamedTuple], rows: Sequence[tuple[str, ...]]) -> None:
    """Write a CSV file; none where there are no rows: one of an earlier call is removed."""
    if not rows:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(row._fields)
    table.writerows([cell(text) for text in line] for line in rows)
    atomic.write_bytes(path, text.getvalue().encode())
