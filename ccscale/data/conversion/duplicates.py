"""Images whose files have the same bytes: all but the first are left out, and listed in ``duplicates.csv``.

The first is the one that comes first in the order of the splits and then of their images. The hashes of each
`CHUNK` images are kept in a file of their own until the conversion ends, so that a killed one need not read these
images again.
"""

import functools
import hashlib
import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ccscale import atomic
from ccscale.data.conversion.reading import read_local
from ccscale.data.conversion.stash import Stash, is_costly
from ccscale.data.sources.items import Item, Source
from ccscale.errors import BadImage
from ccscale.pool import Tick
from ccscale.progress import Meter

DUPLICATES = "duplicates.csv"
CHUNK = 1000
HASH_BYTES = hashlib.sha256().digest_size
UNREADABLE = bytes(HASH_BYTES)  # reported when its shard is written


class Duplicate(NamedTuple):
    """A duplicate that is left out.

    Attributes
    ----------
    split, key, origin
        Its own.
    same_as
        Key of the image that is kept.
    conflict
        The two labels' classes, "" where the labels are equal or one is not known.
    """

    split: str
    key: str
    origin: str
    same_as: str
    conflict: str


def without_duplicates(source: Source, stash: Stash) -> tuple[Source, list[Duplicate]]:
    """Return a source without the images that repeat another's bytes, and the list of these.

    Images behind URLs go into the stash on the way: each is read once.
    """
    conversion = stash.conversion
    items = [item for split in source.splits.values() for item in split]
    chunks = [
        (number, items[start : start + CHUNK]) for number, start in enumerate(range(0, len(items), CHUNK))
    ]
    known = {number: _load(conversion.folder, number, len(part)) for number, part in chunks}
    new = {id(item) for number, part in chunks if known[number] is None for item in part}
    behind_urls = [
        (split, item)
        for split, inside in source.splits.items()
        for item in inside
        if id(item) in new and is_costly(item) and not stash.knows(item)
    ]
    stash.read(behind_urls, "reading images")
    todo = []
    for number, part in chunks:
        before = known[number]
        now = [
            bytes.fromhex(stash.hashes[item.key]) or UNREADABLE
            if item.key in stash.hashes
            else before and before[place * HASH_BYTES : (place + 1) * HASH_BYTES]
            for place, item in enumerate(part)
        ]
        if None in now or b"".join(hash_ or b"" for hash_ in now) != before:
            todo.append(_Chunk(number, part, now))
    done = len(items) - sum(len(chunk.items) for chunk in todo)
    with Meter("looking for duplicates", len(items), "images", conversion.progress, done) as meter:
        found = conversion.run(functools.partial(_hash_chunk, conversion.folder), todo, meter)
    known |= {chunk.number: hashes for chunk, hashes in zip(todo, found, strict=True)}
    first = _first_of_each(b"".join(known[number] or b"" for number, _ in chunks))
    return _split(source, items, first)


def _split(source: Source, items: list[Item], first: npt.NDArray[np.int64]) -> tuple[Source, list[Duplicate]]:
    """Part the images by whether each is the first of its kind."""
    splits: dict[str, list[Item]] = {}
    duplicates = []
    number = 0
    for split, inside in source.splits.items():
        splits[split] = []
        for item in inside:
            kept = items[first[number]]
            number += 1
            if kept is item:
                splits[split].append(item)
                continue
            conflict = ""
            if None not in (item.label, kept.label) and item.label != kept.label:
                conflict = f"{source.classes[item.label or 0]}, kept as {source.classes[kept.label or 0]}"
            duplicates.append(Duplicate(split, item.key, item.origin, kept.key, conflict))
    return replace(source, splits=splits), duplicates


def _first_of_each(hashes: bytes) -> npt.NDArray[np.int64]:
    """Return for each hash the position of the first equal one."""
    words = np.frombuffer(hashes, ">u8").reshape(-1, HASH_BYTES // 8)  # (images, 4)
    order = np.lexsort(words.T)  # stable: equal hashes stay in their order
    ranked = words[order]
    starts = np.ones(len(words), bool)
    starts[1:] = (ranked[1:] != ranked[:-1]).any(axis=1) | ~ranked[1:].any(axis=1)
    first = np.empty(len(words), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(words)), 0))]
    return first


def _load(folder: str, number: int, count: int) -> bytes | None:
    """Return a chunk's hashes from its file; None if there is none."""
    try:
        with open(_place(folder, number), "rb") as file:
            hashes = file.read()
    except FileNotFoundError:
        return None
    return hashes if len(hashes) == count * HASH_BYTES else None


class _Chunk(NamedTuple):
    """Some images, and the hashes of those that were read before."""

    number: int
    items: list[Item]
    known: list[bytes | None]


def _hash_chunk(folder: str, chunk: _Chunk, tick: Tick) -> bytes:
    """Hash some images and keep the hashes; runs in a worker process."""
    hashes = b""
    for item, known in zip(chunk.items, chunk.known, strict=True):
        tick()
        try:
            hashes += known or hashlib.sha256(read_local(item)).digest()
        except BadImage:
            hashes += UNREADABLE
    atomic.write_bytes(_place(folder, chunk.number), hashes)
    return hashes


def _place(folder: str, number: int) -> str:
    return os.path.join(folder, f"hashes-{number:06d}.bin")
