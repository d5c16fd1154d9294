"""Parts of shards, the units that a rank assigns. Pure functions.

A part is a shard, or a span of one that is larger than `PART_SAMPLES`. Its name depends only on the shard's URL
and the span, so a part is the same whichever rank processes it, and whatever other shards there are.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.shard_watch import UNLISTED

PART_SAMPLES = 8192  # with features of width 2,048 a part is held in 64 MiB
LONGEST = 150  # characters of a shard's url in a file's name

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A span of a shard.

    Attributes
    ----------
    shard
        The whole of it.
    start, count
        Number of its first sample in the shard; number of samples.
    first
        Number of its first sample among all that are assigned.
    """

    shard: Shard
    start: int
    count: int
    first: int

    @property
    def name(self) -> str:
        """Name of a file for it, without an ending: never one that is passed over, as ``_x`` and ``.x`` are."""
        name = self.former_name
        return f"%{ord(name[0]):02X}{name[1:]}" if name[0] in "_." else name

    @property
    def former_name(self) -> str:
        """Its name as earlier releases have it."""
        url = self.shard.url
        stem = quote(url.removesuffix(".tar"), safe=" ")
        if len(stem) > LONGEST:
            stem = f"{stem[-LONGEST:]}~{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        return f"{stem}.{self.start:09d}"

    @property
    def key(self) -> dict[str, Any]:
        """What tells its content: a shard of the same name may come to hold something else."""
        whole = {name: getattr(self.shard, name) for name in ("nsamples", "filesize", "sha256")}
        return whole | {"start": self.start, "count": self.count}

    def is_of(self, key: dict[str, Any]) -> bool:
        """Return whether a key is this part's. One may be of the time when no manifest listed the shard yet."""
        own = self.key
        hashes = (own["sha256"], str(key.get("sha256")))
        comparable = len({one.startswith(UNLISTED) for one in hashes}) == 1
        return all(key.get(name) == value for name, value in own.items() if comparable or name != "sha256")

    @property
    def span(self) -> range:
        """Its samples' numbers among all that are assigned."""
        return range(self.first, self.first + self.count)


def parts_of(shards: Sequence[Shard], samples: int = PART_SAMPLES) -> list[Part]:
    """Return the parts of shards, of at most `samples` each, in the samples' order; empty shards have none."""
    parts, first = [], 0
    for shard in shards:
        for start in range(0, shard.nsamples, samples):
            parts.append(Part(shard, start, min(samples, shard.nsamples - start), first + start))
        first += shard.nsamples
    return parts


def deal(parts: Sequence[Part], done: Collection[str], rank: int, world: int) -> list[Part]:
    """Return a rank's share of those parts whose names are not in `done`."""
    return [part for part in parts if part.name not in done][rank::world]


def by_part(
    parts: Iterable[Part], batches: Iterable[T], size: Callable[[T], int]
) -> Iterator[tuple[Part, list[T]]]:
    """Yield each part with the batches of its samples, none of which goes across a part's end.

    Parameters
    ----------
    parts
        In the order of their samples.
    batches
        What is found of their samples, in the same order. They may end early: then a part that is not whole is left
        out.
    size
        Returns of how many samples a batch is.
    """
    left, held = iter(parts), list[T]()
    for batch in batches:
        if not held:
            part = next(left)
        held.append(batch)
        if sum(map(size, held)) == part.count:
            yield part, held
            held = []
