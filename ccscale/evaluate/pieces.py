"""What a rank assigns at a time: pieces of shards. Pure.

A piece is a shard, or a span of one that is larger than `PIECE_SAMPLES`. Its name follows from the shard's url and
the span alone, so that a piece is the same whichever rank takes it, however many there are, and whichever other
shards come before it.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ccscale.data.shards.manifest_file import Shard

PIECE_SAMPLES = 8192  # with features of width 2,048 a piece is held in 64 MiB
LONGEST = 150  # characters of a shard's url in a file's name
UNLISTED = "0" * 32  # how what stands for the SHA-256 of a shard begins where no manifest tells it


@dataclass(frozen=True)
class Piece:
    """A span of a shard.

    Attributes
    ----------
    url
        The shard's, as in the manifest.
    nsamples, filesize, sha256
        The whole shard's; see `manifest_file.Shard`.
    start, count
        Number of its first sample in the shard; number of samples.
    first
        Number of its first sample among all that are assigned.
    """

    url: str
    nsamples: int
    filesize: int
    sha256: str
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
        stem = quote(self.url.removesuffix(".tar"), safe=" ")
        if len(stem) > LONGEST:
            stem = f"{stem[-LONGEST:]}~{hashlib.sha256(self.url.encode()).hexdigest()[:16]}"
        return f"{stem}.{self.start:09d}"

    @property
    def key(self) -> dict[str, Any]:
        """What tells its content: a shard of the same name may come to hold something else."""
        return {
            "nsamples": self.nsamples,
            "filesize": self.filesize,
            "sha256": self.sha256,
            "start": self.start,
            "count": self.count,
        }

    def is_of(self, key: dict[str, Any]) -> bool:
        """Tell whether a key is this piece's. One may be of the time when no manifest listed the shard yet."""
        own = self.key
        hashes = (own["sha256"], str(key.get("sha256")))
        comparable = len({one.startswith(UNLISTED) for one in hashes}) == 1
        return all(key.get(name) == value for name, value in own.items() if comparable or name != "sha256")

    @property
    def span(self) -> range:
        """Its samples' numbers among all that are assigned."""
        return range(self.first, self.first + self.count)


def cut(shards: Sequence[Shard], samples: int = PIECE_SAMPLES) -> list[Piece]:
    """Cut shards into pieces of at most `samples`, in the order of the samples; empty shards have none."""
    pieces, first = [], 0
    for shard in shards:
        for start in range(0, shard.nsamples, samples):
            facts = (shard.url, shard.nsamples, shard.filesize, shard.sha256)
            pieces.append(Piece(*facts, start, min(samples, shard.nsamples - start), first + start))
        first += shard.nsamples
    return pieces


def deal(pieces: Sequence[Piece], done: Collection[str], rank: int, world: int) -> list[Piece]:
    """Return a rank's share of those pieces whose names are not in `done`."""
    return [piece for piece in pieces if piece.name not in done][rank::world]
