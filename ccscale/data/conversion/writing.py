"""Writes the shards of a conversion that an earlier call has not made, or has made with another layout.

Each is written independently, in a worker process: the shard, then its index, then its record. If the record
exists, all are complete.
"""

import contextlib
import functools
import json
import os
import warnings

from ccscale import atomic
from ccscale.data.conversion.duplicates import DUPLICATES
from ccscale.data.conversion.layout import ShardLayout
from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.conversion.reading import Prepared, read_images
from ccscale.data.conversion.record import Record
from ccscale.data.conversion.rejected import REJECTED, Rejected
from ccscale.data.conversion.retry_rejected import with_new_reasons
from ccscale.data.conversion.stash import Stash, is_costly
from ccscale.data.images.decode import silence_pillow
from ccscale.data.shards import index
from ccscale.data.shards.hashing import blocks_of, hash_file
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest import NAME
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.tar_writer import TarWriter
from ccscale.data.sources.items import Item
from ccscale.errors import BadImage
from ccscale.pool import Tick
from ccscale.progress import Meter, say

FEW_BLOCKS = 512
FEW_IMAGES = 32


def write_shards(layouts: list[ShardLayout], stash: Stash) -> list[Record]:
    """Write the shards that are not there yet; return the records of all, in the order of the layouts."""
    records: dict[str, Record] = {}
    conversion = stash.conversion
    if conversion.resumed:
        conversion.remove_leftovers([layout.name for layout in layouts], [REJECTED, DUPLICATES, NAME])
        records = _whole(layouts, stash)
    todo = [
        ShardLayout(layout.name, layout.split, [stash.content_of(item) for item in layout.items])
        for layout in layouts
        if layout.name not in records
    ]
    done = sum(len(layout.items) for layout in layouts if layout.name in records)
    images = sum(len(layout.items) for layout in layouts)
    with Meter("writing shards", images, "images", conversion.progress, done) as meter:
        function = functools.partial(_write_shard, conversion.out, conversion.preparation)
        written = conversion.run(function, todo, meter, few=images - done <= FEW_IMAGES)
    records |= {layout.name: record for layout, record in zip(todo, written, strict=True)}
    return [records[layout.name] for layout in layouts]


def _whole(layouts: list[ShardLayout], stash: Stash) -> dict[str, Record]:
    """Return the records of shards that an earlier call completed, by name.

    Those that are whole and are to hold something else are moved to the stash.
    """
    conversion, out = stash.conversion, stash.conversion.out
    wanted = {layout.name: layout for layout in layouts}
    remote = {item.key for layout in layouts for item in layout.items if is_costly(item)}
    records = conversion.records()
    blocks = sum(blocks_of(record.shard.filesize) for record in records.values() if record.shard)
    few = blocks < FEW_BLOCKS  # read before the processes would have started
    with Meter("checking what is there", blocks, "MiB", conversion.progress and not few) as meter:
        check = functools.partial(_holds, out)
        holds = conversion.run(check, list(records.values()), meter, alone=few)
    whole, damaged = {}, []
    for (name, record), sound in zip(records.items(), holds, strict=True):
        current = with_new_reasons(record, stash)
        if not sound:
            damaged.append(name)
        # Also made again where one of its images could be read meanwhile.
        elif (
            name not in wanted
            or any(line.key in stash.images for line in record.rejected)
            or not record.follows(out, wanted[name])
        ):
            far = [line for line in current.rejected if line.key in remote]
            stash.take_in(None if record.shard is None else os.path.join(out, name), far)
            conversion.forget(name)
        else:
            whole[name] = current
            if current != record:
                current.save(out, name)
    if conversion.progress:
        again = f" ({', '.join(damaged)} have changed and are made again)" if damaged else ""
        say(f"continuing: {len(whole):,} of {len(layouts):,} shards are done{again}")
    return whole


def _holds(out: str, record: Record, tick: Tick) -> bool:
    return record.holds(out, tick)


class _NothingLeft(Exception):
    """No image of a shard can be read: the shard is abandoned."""


def _write_shard(out: str, preparation: Preparation, layout: ShardLayout, tick: Tick) -> Record:
    """Write a shard into the folder `out` and return its record; runs in a worker process."""
    rows: list[index.Row] = []
    rejected: list[Rejected] = []
    path = os.path.join(out, layout.name)
    with warnings.catch_warnings():
        silence_pillow()
        try:
            with atomic.replacing(path) as file:
                tar = TarWriter(file)
                with contextlib.closing(read_images(layout.items, tick)) as images:
                    for item, data in images:
                        try:
                            rows.append(_add_sample(tar, item, data, layout.split, preparation))
                        except BadImage as error:
                            rejected.append(Rejected.of(layout.split, item, error))
                tar.finish()
                if not rows:
                    raise _NothingLeft
        except _NothingLeft:
            record = Record(None, "", 0, rejected)
        else:
            beside = index.index_location(path)
            index.write_index(beside, index.ShardIndex.from_rows(rows))
            shard = Shard(layout.name, len(rows), tar.size, tar.sha256, layout.split)
            labelled = sum(row[4] != UNKNOWN for row in rows)
            record = Record(shard, hash_file(beside)[0], labelled, rejected)
    record.save(out, layout.name)
    return record


def _add_sample(
    tar: TarWriter, item: Item, found: bytes | BadImage, split: str, preparation: Preparation
) -> index.Row:
    """Append a sample and return its row of the index; raises BadImage, also where that was found."""
    if isinstance(found, BadImage):
        raise found
    if isinstance(item.content, Prepared):
        data, extension = found, item.content.extension
    else:
        data, extension = prepare(found, preparation)
    offset = tar.add(f"{item.key}.{extension}", data)
    if item.label is not None:
        tar.add(f"{item.key}.cls", str(item.label).encode())
    facts = {"origin": item.origin, "split": split}
    tar.add(f"{item.key}.json", json.dumps(facts, ensure_ascii=False).encode())
    label = UNKNOWN if item.label is None else item.label
    return item.key, extension, offset, len(data), label, item.origin
