"""Writes one shard of a plan, then its index, then its record: where the record is, all is whole."""

import errno
import json
import os
import warnings

from ccscale import atomic
from ccscale.data import index
from ccscale.data.decode import silence_pillow
from ccscale.data.hashed import hash_file
from ccscale.data.making.images import Recipe, prepare
from ccscale.data.making.notes import Record, Rejected
from ccscale.data.making.plan import ShardPlan
from ccscale.data.manifest import Shard
from ccscale.data.pool import Tick
from ccscale.data.sources.items import Item
from ccscale.data.tar import TarWriter
from ccscale.errors import BadImage, Fault

# What says nothing about a file and all about the machine or its network: the next file would fare the same.
LOST = frozenset([errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV])
FULL = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM])


class _NothingLeft(Exception):
    """No image of a shard can be read: the shard is given up."""


def write_shard(out: str, recipe: Recipe, plan: ShardPlan, tick: Tick) -> Record:
    """Write a shard into the folder `out` and return its record; runs in a worker process."""
    rows: list[index.Row] = []
    rejected: list[Rejected] = []
    path = os.path.join(out, plan.name)
    with warnings.catch_warnings():
        silence_pillow()
        try:
            with atomic.replacing(path) as file:
                tar = TarWriter(file)
                for item in plan.items:
                    tick()
                    try:
                        rows.append(_add_sample(tar, item, plan.split, recipe))
                    except BadImage as error:
                        rejected.append(Rejected(plan.split, item.key, item.origin, str(error)))
                tar.finish()
                if not rows:
                    raise _NothingLeft
        except _NothingLeft:
            record = Record(None, "", 0, rejected)
        else:
            beside = index.index_location(path)
            index.write_index(beside, index.ShardIndex.from_rows(rows))
            shard = Shard(plan.name, len(rows), tar.size, tar.sha256, plan.split)
            labelled = sum(row[4] != index.UNKNOWN for row in rows)
            record = Record(shard, hash_file(beside)[0], labelled, rejected)
    record.save(out, plan.name)
    return record


def read_image(item: Item) -> bytes:
    """Return the bytes of an item's file.

    Raises
    ------
    BadImage
        If this file cannot be read.
    Fault
        If no file can, because the place that the source is on has gone.
    """
    try:
        return item.content.read()
    except OSError as error:
        reason, path = error.strerror or str(error), item.content.path
        # The folder was there when the source was listed.
        gone = error.errno == errno.ENOENT and not os.path.isdir(os.path.dirname(path or "/"))
        if path is not None and (gone or error.errno in LOST | FULL):
            raise Fault(
                f"the source cannot be read any more, at {path} ({reason}): start the same command again when it "
                "can be; it keeps the shards that are whole"
            ) from None
        raise BadImage(f"the file cannot be read: {reason}") from None


def _add_sample(tar: TarWriter, item: Item, split: str, recipe: Recipe) -> index.Row:
    """Append a sample and return its row of the index."""
    data, extension = prepare(read_image(item), recipe)
    offset = tar.add(f"{item.key}.{extension}", data)
    if item.label is not None:
        tar.add(f"{item.key}.cls", str(item.label).encode())
    facts = {"origin": item.origin, "split": split}
    tar.add(f"{item.key}.json", json.dumps(facts, ensure_ascii=False).encode())
    label = index.UNKNOWN if item.label is None else item.label
    return item.key, extension, offset, len(data), label, item.origin
