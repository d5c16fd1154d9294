"""Living clusters of given ids, as commands would write them: versions without a network."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ccscale.clusters.draft import begin_draft
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.lineage import CURRENT, Lineage, clusters_of, numbers_of, read_current
from ccscale.clusters.memory import Memory
from ccscale.clusters.tables import BAD, UNASSIGNED, table_name, write_changes, write_shard
from ccscale.clusters.version import (
    CHANGES,
    TABLES,
    DataSet,
    NetworkBasis,
    TableFile,
    Version,
    Why,
    counts,
    refs_of,
)
from ccscale.data.shards.manifest_file import Shard
from ccscale.features.listing import Settings


def shard_of(number: int, rows: int) -> Shard:
    """Return the shard that a table is of."""
    digest = hashlib.sha256(bytes([number])).hexdigest()
    return Shard(f"train-{number:06d}.tar", rows, 1024 * rows, digest, "train")


def commit(
    run: Path,
    why: Why,
    tables: Sequence[Sequence[int]] = (),
    *,
    changes: Mapping[tuple[int, int], int] | None = None,
    **fields: Any,
) -> Version:
    """Add a version to a run's clusters: tables of ids, images (table, row) that get another id, fields."""
    clusters = clusters_of(run)
    clusters.mkdir(parents=True, exist_ok=True)
    before = read_current(clusters) if (clusters / CURRENT).exists() else None
    newest = Lineage(clusters, numbers_of(clusters)[-1]).current if before is not None else None
    lineage = Lineage(clusters, before or 0)
    draft = begin_draft(clusters, why, why)
    (draft.folder / TABLES).mkdir(exist_ok=True)
    first = newest.next_table if newest is not None else 0
    files = []
    for number, given in enumerate(tables, first):
        ids, shard = np.array(given, dtype=np.int64), shard_of(number, len(given))
        keys = pa.chunked_array([[f"{number}/{row}" for row in range(len(ids))]], pa.string())
        path = draft.folder / TABLES / table_name("made", shard)
        reasons = ["too far" if one == UNASSIGNED else None for one in given]
        write_shard(path, keys, ids, np.full(len(ids), 0.5, np.float32), reasons, {"table": number})
        files.append(
            TableFile(
                number=number,
                name=path.name,
                data="made",
                shard=shard,
                store="features/made",
                rows=len(ids),
                unassigned=int((ids == UNASSIGNED).sum()),
                bad=int((ids == BAD).sum()),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )
    content: dict[str, Any] = {"next_id": 4, "backbone": Settings(backbone="test", weights="0" * 64, size=32)}
    content |= {
        "basis": NetworkBasis(step=1, weights="0" * 64),
        "data": (DataSet(name="made", root="/made"),),
    }
    if before is None:
        rng = np.random.default_rng(0)
        heads = np.repeat(np.arange(4), 8)
        rows = (np.eye(4)[heads] + 0.1 * rng.normal(size=(32, 4))).astype(np.float32)
        memory = Memory(
            *make_initial_state(rows, heads, np.ones(32, np.float32), refs_of(0, np.arange(32)), k=4, seed=0)
        )
        content["files"] = memory.save(draft)
    else:
        content = {name: getattr(lineage.current, name) for name in Version.model_fields} | {
            "next_id": newest.next_id,
            "changes": None,
            "changed": 0,
            "renamed": {},
            "events": (),
        }
    if changes:
        refs = np.array([int(refs_of(table, np.array(row))) for table, row in changes], dtype=np.int64)
        former, ids = np.zeros(len(refs), np.int64), np.array(list(changes.values()), dtype=np.int64)
        content["changes"] = write_changes(draft.folder / CHANGES, lineage, refs, former, ids)
    content |= {"number": draft.number, "parent": draft.parent, "why": why, "when": draft.when}
    content["counts"] = counts(files, content.get("counts"))
    content |= {"tables": tuple(files), "next_table": first + len(files)} | fields
    version = Version(**content)
    draft.commit(version)
    return version


def ids_at(run: Path, number: int | None = None) -> dict[str, int]:
    """Return the id of every image at a version, by key."""
    from ccscale.clusters.lineage import open_lineage
    from ccscale.clusters.tables import full_table

    lineage = open_lineage(run)
    found: dict[str, int] = {}
    for table in full_table(lineage, number or lineage.number):
        found |= dict(zip(table["key"].to_pylist(), table["id"].to_pylist(), strict=True))
    return found
