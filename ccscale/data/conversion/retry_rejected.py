"""Retries images that an earlier call could not read: temporary failures, and files that may have been repaired.

An image behind a URL is tried again where its failure may pass (no answer, a server's fault), and a local file
always: it costs a read. Where one can be read now, its shard is made again, of the samples that it has and of this
one, so that the shards are those of a call that could read it from the start.
"""

from collections.abc import Iterable

from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.conversion.reading import read_local
from ccscale.data.conversion.record import Record
from ccscale.data.conversion.rejected import Rejected
from ccscale.data.conversion.stash import Stash, is_costly
from ccscale.data.sources.items import Item, Source
from ccscale.errors import BadImage


def may_be_read_now(source: Source, rejected: Iterable[Rejected], preparation: Preparation) -> bool:
    """Return whether any of the images that were left out is to be tried again, or is a file that was mended."""
    rejected = list(rejected)
    if any(line.temporary for line in rejected):
        return True
    keys = {line.key for line in rejected}
    local = (item for items in source.splits.values() for item in items if item.key in keys)
    return any(_is_readable(item, preparation) for item in local if not is_costly(item))


def try_again(source: Source, rejected: Iterable[Rejected], stash: Stash) -> None:
    """Read rejected images that may be readable now, into the stash."""
    keys = {line.key: bool(line.temporary) for line in rejected}
    keys |= {key: bool(line.temporary) for key, line in stash.failed.items()}
    todo = [
        (split, item)
        for split, items in source.splits.items()
        for item in items
        if item.key in keys and item.key not in stash.images and (keys[item.key] or not is_costly(item))
    ]
    # A mended file is rare: those that are as they were must not be kept, nor be told of.
    preparation = stash.conversion.preparation
    known = [(split, item) for split, item in todo if is_costly(item) or _is_readable(item, preparation)]
    stash.read(known, "trying again what could not be read")


def with_new_reasons(record: Record, stash: Stash) -> Record:
    """Return a record whose rejected images have the reasons of the last try."""
    rejected = [stash.failed.get(line.key, line) for line in record.rejected]
    return Record(record.shard, record.index_sha256, record.labelled, rejected)


def _is_readable(item: Item, preparation: Preparation) -> bool:
    try:
        prepare(read_local(item), preparation)
    except BadImage:
        return False
    return True
