"""Tables of images and ids: one per shard, as a version wrote it, and its state at a later version.

::

    vNNNNNN/tables/<data set>-<shard>.parquet      rows in the shard's order
      key         string
      id          int64    -1: fits nowhere; null for an image without features, as all that follow
      confidence  float32
      reason      string   why it fits nowhere
    vNNNNNN/changes.parquet                        images that got another id, one by one
      data_set, shard, key   string
      table, row             int64
      former, id             int64

A table at a version is the written one with the changes of the following versions on the chain applied in order:
first ids renamed as a whole (merged), then images changed individually.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ccscale.array_types import Float32, Int64
from ccscale.clusters.arrays import read_kept
from ccscale.clusters.lineage import Lineage, version_folder
from ccscale.clusters.version import CHANGES, TableFile, Version, refs_of, tables_and_rows
from ccscale.data.shards.manifest_file import Shard
from ccscale.embed.parts_store import file_name
from ccscale.evaluate.table import write_table

FACTS = b"ccscale.clusters"  # the metadata's key: version, table, shard, drift
UNASSIGNED, BAD = -1, -2  # of ids: fits nowhere; has no features (null in a file)


def table_name(data: str, shard: Shard) -> str:
    """Return the name of a shard's table."""
    name = quote(data, safe=" ").replace(".", "%2E")
    return f"{name}-{Path(file_name(shard)).stem}.parquet".replace("_", "%5F", 1 if name[0] == "_" else 0)


def write_shard(
    path: Path,
    keys: pa.ChunkedArray,
    ids: Int64,
    confidence: Float32,
    reasons: Sequence[str | None],
    facts: dict[str, Any],
) -> None:
    """Write a shard's table atomically; `ids` may be `UNASSIGNED` or `BAD`."""
    bad = ids == BAD
    table = pa.table(
        {
            "key": keys,
            "id": pa.array(ids, pa.int64(), mask=bad),
            "confidence": pa.array(confidence, pa.float32(), mask=bad),
            "reason": pa.array(reasons, pa.string()),
        }
    )
    write_table(path, [table.replace_schema_metadata({FACTS: json.dumps(facts)})])


def facts_of(path: Path) -> dict[str, Any]:
    """Return what a table's metadata tell; nothing if it is none."""
    try:
        return json.loads((pa.parquet.read_schema(path).metadata or {})[FACTS])
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return {}


def write_changes(path: Path, lineage: Lineage, refs: Int64, former: Int64, ids: Int64) -> str:
    """Write the images that get another id, of any tables of the lineage; return the file's SHA-256."""
    order = np.argsort(refs, kind="stable")
    refs, former, ids = refs[order], former[order], ids[order]
    numbers, rows = tables_and_rows(refs)
    known = lineage.tables()
    columns: dict[str, list[str]] = {"data_set": [], "shard": [], "key": []}
    for number in np.unique(numbers).tolist():
        version, table = known[number]
        keys = read_shard(lineage, version, table)["key"]
        inside = rows[numbers == number]
        columns["key"] += keys.take(pa.array(inside)).to_pylist()
        columns["data_set"] += [table.data] * len(inside)
        columns["shard"] += [table.shard.url] * len(inside)
    found = pa.table({**columns, "table": numbers, "row": rows, "former": former, "id": ids})
    write_table(path, [found])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_shard(lineage: Lineage, version: Version, table: TableFile) -> pa.Table:
    """Return a shard's table as it was written.

    Raises
    ------
    InputError
        If it is damaged.
    """
    return _read(lineage.table_path(version, table), table.sha256)


def _read(path: Path, sha256: str) -> pa.Table:
    return pa.parquet.read_table(pa.BufferReader(read_kept(path, sha256)))


@dataclass(frozen=True)
class ShardIds:
    """The rows of a shard at a version.

    Attributes
    ----------
    table
        Whose they are.
    written
        The table as it was written.
    ids
        (n,) int64, `UNASSIGNED` and `BAD` among them.
    versions
        (n,) int64: by which version each has its id.
    """

    table: TableFile
    written: pa.Table
    ids: Int64
    versions: Int64

    @property
    def refs(self) -> Int64:
        """What names the rows."""
        return refs_of(self.table.number, np.arange(len(self.ids)))


@dataclass(frozen=True)
class TablesAt:
    """All tables at a version of a lineage.

    Attributes
    ----------
    lineage
        Whose.
    number
        The version's.
    since
        Only tables of later versions than this one.
    """

    lineage: Lineage
    number: int
    since: int = 0

    @cached_property
    def _chain(self) -> list[Version]:
        return self.lineage.chain(self.number)

    @cached_property
    def _changes(self) -> dict[int, tuple[Int64, Int64]]:
        """Refs, rising, and new ids of the images that versions changed one by one."""
        found = {}
        for version in self._chain:
            if version.changes is not None:
                path = version_folder(self.lineage.folder, version.number) / CHANGES
                changes = _read(path, version.changes)
                table, row, ids = (changes[name].to_numpy() for name in ("table", "row", "id"))
                found[version.number] = refs_of(table, row), ids
        return found

    def __iter__(self) -> Iterator[ShardIds]:
        """Yield the shards, in the order in which they were assigned."""
        for at, version in enumerate(self._chain):
            for table in version.tables if version.number > self.since else ():
                yield self._overlay(version, table, self._chain[at + 1 :])

    def _overlay(self, version: Version, table: TableFile, later: Sequence[Version]) -> ShardIds:
        written = read_shard(self.lineage, version, table)
        ids = written["id"].fill_null(BAD).to_numpy().copy()
        versions = np.full(len(ids), version.number, np.int64)
        for one in later:
            for old, new in one.renamed.items():
                versions[ids == old], ids[ids == old] = one.number, new
            if one.number in self._changes:
                refs, new_ids = self._changes[one.number]
                start, stop = np.searchsorted(
                    refs, [refs_of(table.number, np.array(0)), refs_of(table.number + 1, np.array(0))]
                )
                _, rows = tables_and_rows(refs[start:stop])
                ids[rows], versions[rows] = new_ids[start:stop], one.number
        return ShardIds(table, written, ids, versions)


def full_table(lineage: Lineage, number: int, names: dict[int, str] | None = None) -> Iterator[pa.Table]:
    """Yield the whole table at a version, shard by shard; there may be none.

    ``data_set``, ``shard``, ``key``, ``id``, ``name`` where clusters have names, ``confidence``, ``reason``, and
    ``version``, by which the image has its id.
    """
    for shard in TablesAt(lineage, number):
        bad, count = shard.ids == BAD, len(shard.ids)
        columns: dict[str, Any] = {
            "data_set": pa.array([shard.table.data] * count, pa.string()),
            "shard": pa.array([shard.table.shard.url] * count, pa.string()),
            "key": shard.written["key"],
            "id": pa.array(shard.ids, pa.int64(), mask=bad),
        }
        if names:
            columns["name"] = pa.array([names.get(one) for one in shard.ids.tolist()], pa.string())
        columns["confidence"] = shard.written["confidence"]
        columns["reason"] = pa.compute.if_else(
            pa.array(shard.ids == UNASSIGNED), shard.written["reason"], None
        )
        columns["version"] = shard.versions
        yield pa.table(columns)


def write_full(path: Path, lineage: Lineage, number: int, names: dict[int, str] | None = None) -> int:
    """Write the whole table at a version as parquet or CSV; return its rows."""
    rows = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal rows
        for table in full_table(lineage, number, names):
            rows += len(table)
            yield table

    write_table(path, counted())
    return rows
