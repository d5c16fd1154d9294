"""The layout of shards: which sample goes into which, decided in advance from names, sizes and the seed."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.remote.downloads import Url
from ccscale.data.sources.cells import Cell
from ccscale.data.sources.items import Item, Source
from ccscale.errors import BadImage

MAX_SAMPLES = 10_000  # in a shard, by default
FEW_SHARDS = 4  # a small split still gets this many, so that several processes can write and read it
FEW_SAMPLES = 400  # but not for fewer samples each than this


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """A shard to be written: its file name, its split, its items in order."""

    name: str
    split: str
    items: list[Item]


def lay_out_shards(
    source: Source, seed: int, shard_samples: int | None = None, affordable: int = MAX_SAMPLES
) -> list[ShardLayout]:
    """Shuffle each split and cut it into shards whose sizes differ by at most one sample. Pure.

    Parameters
    ----------
    source
        What to cut.
    seed
        The order depends on it and on the split's name.
    shard_samples
        The most samples in a shard. If None, `affordable`, and less for a split that would otherwise have
        fewer than a few shards.
    affordable
        Samples that make a shard of the wanted size in bytes.
    """
    layouts = []
    for split, items in source.splits.items():
        shards = -(-len(items) // (shard_samples or min(affordable, MAX_SAMPLES)))
        if shard_samples is None:
            shards = max(shards, min(FEW_SHARDS, len(items) // FEW_SAMPLES))
        order = np.random.default_rng([seed, *split.encode()]).permutation(len(items))
        layouts += [
            ShardLayout(f"{split}-{number:06d}.tar", split, [items[i] for i in part])
            for number, part in enumerate(np.array_split(order, shards) if shards else [])
        ]
    return layouts


def sampled(source: Source, preparation: Preparation) -> list[tuple[str, Item]]:
    """Return the (split, item) of some images, by which the size of the shards is judged."""
    items = ((split, item) for split, inside in source.splits.items() for item in inside)
    count = sum(map(len, source.splits.values()))
    return list(itertools.islice(items, 0, None, -(-count // (1000 if preparation.keeps_bytes else 32)) or 1))


def affordable_samples(
    some: Iterable[Item], preparation: Preparation, shard_bytes: int, sizes: Mapping[str, int] | None = None
) -> int:
    """Estimate from some images how many samples make a shard of `shard_bytes`.

    `sizes` has by key the stored bytes of images that were read before, 0 for those that cannot be; where the
    preparation does not keep the bytes, those behind URLs are not read here.
    """
    known = sizes or {}
    found = []
    for item in some:
        # Images that cannot be read are reported when their shard is written.
        with contextlib.suppress(OSError, BadImage):
            if item.key in known:
                found += [known[item.key]] if known[item.key] else []
            elif preparation.keeps_bytes:
                found.append(item.content.size)
            elif not isinstance(item.content, Url | Cell):
                found.append(len(prepare(item.content.read(), preparation)[0]))
    overhead = 2560  # three headers, label and origin, padding: USTAR's blocks
    return max(1, int(shard_bytes / (sum(found) / max(len(found), 1) + overhead)))


def request_digest(source: Source, options: dict[str, Any]) -> str:
    """Return the SHA-256 of the request: options, and names and labels of the source's images."""
    head = [source.kind, source.name, source.classes, source.class_ids, options]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for split, items in source.splits.items():
        digest.update(json.dumps([split, len(items)]).encode())
        for start in range(0, len(items), 1000):
            rows = [(item.key, item.origin, item.label) for item in items[start : start + 1000]]
            digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def layout_digest(layouts: Iterable[ShardLayout]) -> str:
    """Return the SHA-256 of which samples are in which shard."""
    digest = hashlib.sha256()
    for layout in layouts:
        digest.update(json.dumps([layout.name, layout.split, *(item.key for item in layout.items)]).encode())
    return digest.hexdigest()
