"""What an earlier call could not read is tried again: what may have passed, and files that may have been mended.

An image behind a URL is tried again where its failure may pass (no answer, a server's fault), and a local file
always: it costs a read. Where one can be read now, its shard is made anew, of the samples that it has and of this
one, so that the shards are those of a call that could read it from the start.
"""

import csv
import os
from collections.abc import Iterable

from ccscale.data.making.images import Recipe, prepare
from ccscale.data.making.kept import Kept, is_costly
from ccscale.data.making.notes import REJECTED, Record, Rejected
from ccscale.data.making.plan import ShardPlan
from ccscale.data.making.reading import read_local
from ccscale.data.shards.damage import ShardError
from ccscale.data.shards.hashing import hash_file
from ccscale.data.shards.index import index_location, read_index
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.items import Item, Source
from ccscale.errors import BadImage, Fault
from ccscale.spreadsheet import text_of


def listed_as_rejected(out: str) -> list[Rejected]:
    """Return what a conversion that is done has left out; [] where the list cannot be read."""
    try:
        with open(os.path.join(out, REJECTED), newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [Rejected(*(text_of(line.get(name) or "") for name in Rejected._fields)) for line in lines]
    except (OSError, ValueError, csv.Error):
        return []


def may_be_read_now(source: Source, rejected: Iterable[Rejected], recipe: Recipe) -> bool:
    """Tell whether any of the images that were left out is to be tried again, or is a file that was mended."""
    rejected = list(rejected)
    if any(line.temporary for line in rejected):
        return True
    keys = {line.key for line in rejected}
    local = (item for items in source.splits.values() for item in items if item.key in keys)
    return any(_is_readable(item, recipe) for item in local if not is_costly(item))


def try_again(
    source: Source,
    rejected: Iterable[Rejected],
    kept: Kept,
    recipe: Recipe,
    workers: int | None,
    progress: bool,
) -> None:
    """Read what was rejected and may be readable now; `kept` has it from then on."""
    keys = {line.key: bool(line.temporary) for line in rejected}
    keys |= {key: bool(line.temporary) for key, line in kept.failed.items()}
    todo = [
        (split, item)
        for split, items in source.splits.items()
        for item in items
        if item.key in keys and item.key not in kept.images and (keys[item.key] or not is_costly(item))
    ]
    # A mended file is rare: those that are as they were must not be kept, nor be told of.
    known = [(split, item) for split, item in todo if is_costly(item) or _is_readable(item, recipe)]
    kept.read(known, recipe, "trying again what could not be read", workers, progress)


def is_outdated(record: Record, kept: Kept) -> bool:
    """Tell whether a shard lacks an image that could be read meanwhile."""
    return any(line.key in kept.images for line in record.rejected)


def with_new_reasons(record: Record, kept: Kept) -> Record:
    """Return a record whose rejected images have the reasons of the last try."""
    rejected = [kept.failed.get(line.key, line) for line in record.rejected]
    return Record(record.shard, record.index_sha256, record.labelled, rejected)


def records_of(made: Manifest, rejected: Iterable[Rejected], plans: list[ShardPlan]) -> None:
    """Note the records of a conversion that was done, whose notes are gone."""
    shards = {shard.url: shard for shard in made.shards}
    by_key: dict[str, Rejected] = {line.key: line for line in rejected}
    for plan in plans:
        if Record.load(made.root, plan.name) is not None:
            continue
        shard = shards.get(plan.name)
        left_out = [by_key[item.key] for item in plan.items if item.key in by_key]
        try:
            if shard is None:
                record = Record(None, "", 0, left_out)
            else:
                labels = read_index(made, shard).labels
                sha256 = hash_file(index_location(made.locate(shard)))[0]
                record = Record(shard, sha256, int((labels != UNKNOWN).sum()), left_out)
        except (ShardError, Fault, OSError):
            continue  # it is made anew
        record.save(made.root, plan.name)


def _is_readable(item: Item, recipe: Recipe) -> bool:
    try:
        prepare(read_local(item), recipe)
    except BadImage:
        return False
    return True
