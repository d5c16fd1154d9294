"""The record of a finished shard, kept next to the shards during a conversion (`conversion.py`)."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ccscale import atomic
from ccscale.data.conversion.layout import ShardLayout
from ccscale.data.conversion.rejected import Rejected
from ccscale.data.shards import index
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.hashing import hash_file
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import Fault
from ccscale.pool import Tick

FOLDER = ".ccscale-making"


@dataclass(frozen=True, slots=True)
class Record:
    """The result for one shard of the layout.

    Attributes
    ----------
    shard
        Its entry in the manifest; None where no image of it can be read.
    index_sha256
        Of its index; empty where there is no shard.
    labelled
        Number of its samples that have a label.
    rejected
        The images that were left out.
    """

    shard: Shard | None
    index_sha256: str
    labelled: int
    rejected: list[Rejected]

    def save(self, out: str, tar: str) -> None:
        """Write the record of a shard atomically."""
        atomic.write_bytes(record_path(out, tar), json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, out: str, tar: str) -> "Record | None":
        """Read the record of a shard; None if there is none."""
        try:
            with open(record_path(out, tar), "rb") as file:
                content = json.loads(file.read())
            shard = None if content["shard"] is None else Shard(**content["shard"])
            rejected = [Rejected(*line) for line in content["rejected"]]
            return cls(shard, content["index_sha256"], content["labelled"], rejected)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def follows(self, out: str, layout: ShardLayout) -> bool:
        """Return whether the shard, which must hold, has a layout's images in its order, but for the rejected."""
        left_out = {line.key for line in self.rejected}
        wanted = [item.key for item in layout.items if item.key not in left_out]
        if len(left_out) + len(wanted) != len(layout.items):
            return False
        if self.shard is None:
            return not wanted
        with open(index.index_location(os.path.join(out, self.shard.url)), "rb") as file:
            return index.from_parquet(file.read()).keys == wanted

    def holds(self, out: str, tick: Tick | None = None) -> bool:
        """Return whether the shard and its index are there with the bytes that were written."""
        if self.shard is None:
            return True
        path = os.path.join(out, self.shard.url)
        try:
            return (
                os.stat(path).st_size == self.shard.filesize
                and hash_file(index.index_location(path))[0] == self.index_sha256
                and hash_file(path, tick)[0] == self.shard.sha256
            )
        except OSError:
            return False


def note_records(made: Manifest, rejected: Iterable[Rejected], layouts: list[ShardLayout]) -> None:
    """Recreate the notes of a finished conversion from its records."""
    shards = {shard.url: shard for shard in made.shards}
    by_key: dict[str, Rejected] = {line.key: line for line in rejected}
    for layout in layouts:
        if Record.load(made.root, layout.name) is not None:
            continue
        shard = shards.get(layout.name)
        left_out = [by_key[item.key] for item in layout.items if item.key in by_key]
        try:
            if shard is None:
                record = Record(None, "", 0, left_out)
            else:
                labels = index.read_index(made, shard).labels
                sha256 = hash_file(index.index_location(made.locate(shard)))[0]
                record = Record(shard, sha256, int((labels != UNKNOWN).sum()), left_out)
        except (ShardError, Fault, OSError):
            continue  # it is made again
        record.save(made.root, layout.name)


def record_path(out: str, tar: str) -> str:
    """Return the path of a shard's record."""
    return os.path.join(out, FOLDER, f"{tar.removesuffix('.tar')}.json")
