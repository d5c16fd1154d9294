"""Turns the shards of a store into tables, each written by one rank; finished ones remain after a kill.

The rows of a shard are read from its own file, so the cost depends on the new shards, however large the store is.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ccscale import dist
from ccscale.array_types import Float32, Int64
from ccscale.clusters.draft import Draft, disk_errors_as_fault
from ccscale.clusters.tables import BAD, UNASSIGNED, facts_of, table_name, write_shard
from ccscale.clusters.version import TABLES, TableFile, refs_of
from ccscale.features.feature_file import FeatureFileReader, decode
from ccscale.features.listing import FeatureFile
from ccscale.progress import Meter


class ShardAssignments(Protocol):
    """The assignments of n images: ids (or `UNASSIGNED`), confidences, and the reasons for having none."""

    @property
    def ids(self) -> Int64: ...

    @property
    def confidence(self) -> Float32: ...

    @property
    def reasons(self) -> Sequence[str | None]: ...


Answering = Callable[["ShardRows"], tuple[ShardAssignments, dict[str, Any]]]
"""Maps the rows of a shard to their assignments and drift."""


@dataclass(frozen=True)
class NewShard:
    """A shard of a store to assign.

    Attributes
    ----------
    number
        Of its table.
    data, store
        As a `TableFile` has them.
    folder
        Of the store.
    file
        The shard's file there.
    """

    number: int
    data: str
    store: str
    folder: Path
    file: FeatureFile

    @property
    def name(self) -> str:
        """Of its table."""
        return table_name(self.data, self.file.shard)

    def read(self) -> "ShardRows":
        """Return its rows."""
        reader = FeatureFileReader(self.folder / self.file.name)
        bad = reader.column("bad").to_numpy()
        kept = [
            np.empty((0, reader.width), np.float32),
            *(decode(one.copy()).numpy() for one in reader.arrays(0)),
        ]
        good = np.flatnonzero(~bad)
        return ShardRows(reader.column("key"), refs_of(self.number, good), good, np.concatenate(kept)[good])


@dataclass(frozen=True)
class ShardRows:
    """The rows of a shard.

    Attributes
    ----------
    keys
        Of all N.
    refs
        (n,) int64: what names those with features in the lineage.
    good
        (n,) int64: their rows in the shard.
    features
        (n, D) float32: theirs, of the images as they are.
    """

    keys: pa.ChunkedArray
    refs: Int64
    good: Int64
    features: Float32


def write_tables(draft: Draft, shards: Sequence[NewShard], answer: Answering) -> list[TableFile]:
    """Write the tables of shards, distributed over all ranks, which call it together; return them in order.

    Raises
    ------
    InputError
        If a file of the store is damaged.
    Fault
        If they cannot be written.
    """
    mine = shards[dist.rank() :: dist.world()]

    def write() -> list[TableFile]:
        with Meter("assigning", len(mine), "shards", dist.rank() == 0) as meter:
            tables = []
            for shard in mine:
                tables.append(_table(draft, shard, answer))
                meter.advance()
        return tables

    found = dist.all_objects(dist.together(write))
    return sorted((table for tables in found for table in tables), key=lambda table: table.number)


def _table(draft: Draft, shard: NewShard, answer: Answering) -> TableFile:
    """Write a shard's table, unless it exists from before a kill."""
    path = draft.folder / TABLES / shard.name
    facts: dict[str, Any] = {
        "version": draft.number,
        "table": shard.number,
        "shard": asdict(shard.file.shard),
    }
    facts |= {"features": shard.file.sha256}
    found = facts_of(path)
    drift = found.pop("drift", None)
    if found != facts:
        rows = shard.read()
        answers, drift = answer(rows)
        ids = np.full(shard.file.rows, BAD, np.int64)
        confidence = np.zeros(shard.file.rows, np.float32)
        reasons = np.full(shard.file.rows, None, object)
        ids[rows.good], confidence[rows.good], reasons[rows.good] = (
            answers.ids,
            answers.confidence,
            list(answers.reasons),
        )
        with disk_errors_as_fault(path):
            path.parent.mkdir(exist_ok=True)
            write_shard(path, rows.keys, ids, confidence, reasons.tolist(), facts | {"drift": drift})
    else:
        ids = _ids(path)
    return TableFile(
        number=shard.number,
        name=shard.name,
        data=shard.data,
        shard=shard.file.shard,
        store=shard.store,
        rows=len(ids),
        unassigned=int(np.count_nonzero(ids == UNASSIGNED)),
        bad=int(np.count_nonzero(ids == BAD)),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        drift=drift or {},
    )


def ids_of(draft: Draft, table: TableFile) -> Int64:
    """Return the ids (N,) of a table of the version that is being made, including `UNASSIGNED` and `BAD`."""
    return _ids(draft.folder / TABLES / table.name)


def _ids(path: Path) -> Int64:
    ids: Int64 = pa.parquet.read_table(path, columns=["id"])["id"].fill_null(BAD).to_numpy()
    return ids
