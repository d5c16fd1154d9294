"""Writes one shard by its layout, then its index, then its record: where the record is, all is whole."""

import contextlib
import json
import os
import warnings

from ccscale import atomic
from ccscale.data.images.decode import silence_pillow
from ccscale.data.making.layout import ShardLayout
from ccscale.data.making.preparation import Preparation, prepare
from ccscale.data.making.reading import Prepared, read_images
from ccscale.data.making.record import Record
from ccscale.data.making.rejected import Rejected
from ccscale.data.shards import index
from ccscale.data.shards.hashing import hash_file
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.tar_writer import TarWriter
from ccscale.data.sources.items import Item
from ccscale.errors import BadImage
from ccscale.pool import Tick


class _NothingLeft(Exception):
    """No image of a shard can be read: the shard is given up."""


def write_shard(out: str, preparation: Preparation, layout: ShardLayout, tick: Tick) -> Record:
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
