"""Writes the shards of a conversion's plans: those that an earlier call has not made, or has made otherwise."""

import functools
import os

from ccscale.data.making.conversion import Conversion
from ccscale.data.making.duplicates import DUPLICATES
from ccscale.data.making.mended import is_outdated, with_new_reasons
from ccscale.data.making.plan import ShardPlan
from ccscale.data.making.record import Record
from ccscale.data.making.rejected import REJECTED
from ccscale.data.making.shard_writer import write_shard
from ccscale.data.making.stash import Stash, is_costly
from ccscale.data.shards.hashing import blocks_of
from ccscale.data.shards.manifest import NAME
from ccscale.pool import Tick
from ccscale.progress import Meter, say

FEW_BLOCKS = 512


def write_shards(plans: list[ShardPlan], conversion: Conversion, stash: Stash) -> list[Record]:
    """Write the shards that are not there yet; return the records of all, in the order of the plans."""
    records: dict[str, Record] = {}
    if conversion.resumed:
        conversion.remove_leftovers([plan.name for plan in plans], [REJECTED, DUPLICATES, NAME])
        records = _whole(plans, conversion, stash)
    todo = [
        ShardPlan(plan.name, plan.split, [stash.content_of(item) for item in plan.items])
        for plan in plans
        if plan.name not in records
    ]
    done = sum(len(plan.items) for plan in plans if plan.name in records)
    images = sum(len(plan.items) for plan in plans)
    with Meter("writing shards", images, "images", conversion.progress, done) as meter:
        function = functools.partial(write_shard, conversion.out, conversion.recipe)
        written = conversion.run(function, todo, meter)
    records |= {plan.name: record for plan, record in zip(todo, written, strict=True)}
    return [records[plan.name] for plan in plans]


def _whole(plans: list[ShardPlan], conversion: Conversion, stash: Stash) -> dict[str, Record]:
    """Return the records of the shards that an earlier call has made, by name, if they hold what they are to hold.

    Those that are whole and are to hold something else are moved to the stash.
    """
    out = conversion.out
    planned = {plan.name: plan for plan in plans}
    remote = {item.key for plan in plans for item in plan.items if is_costly(item)}
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
        elif name not in planned or is_outdated(record, stash) or not record.follows(out, planned[name]):
            far = [line for line in current.rejected if line.key in remote]
            stash.take_in(None if record.shard is None else os.path.join(out, name), far)
            conversion.forget(name)
        else:
            whole[name] = current
            if current != record:
                current.save(out, name)
    if conversion.progress:
        again = f" ({', '.join(damaged)} have changed and are made again)" if damaged else ""
        say(f"going on: {len(whole):,} of {len(plans):,} shards are there{again}")
    return whole


def _holds(out: str, record: Record, tick: Tick) -> bool:
    return record.holds(out, tick)
