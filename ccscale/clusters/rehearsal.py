"""The data of a retraining: a bounded number of remembered and new images, as a small feature store.

::

    the reservoir                 old images of each cluster, with their ids
    the pool                      images without a cluster; those of a proposed birth make a cluster of their own
    what updates brought since    some, since the network was made: `RECENT`, drawn by `places`
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.clusters.groups import LEAST
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.proposal_search import FILE
from ccscale.clusters.reassigning import reader_of_tables
from ccscale.clusters.reservoir import places
from ccscale.clusters.tables import TablesAt
from ccscale.clusters.version import NETWORK, TableFile, tables_and_rows
from ccscale.data.shards.manifest_file import Shard
from ccscale.features.feature_file import ENDING, encode, record_batch, schema, write_file
from ccscale.features.listing import LISTING, ROWS, FeatureFile, ListedDataSet, Listing, Settings

RECENT = 16_384  # images that updates have brought since the network was made, at most
SPLIT = "train"


@dataclass(frozen=True)
class Rehearsal:
    """Images that a retraining trains on.

    Attributes
    ----------
    features
        (n, D).
    refs
        (n,) int64, rising: which images they are.
    clusters
        (n,) int64: the cluster of 0 to K − 1 that the network begins with, or -1: it is not told.
    known
        (n,) bool: they have an id, or are of a proposed birth.
    ids
        (C,) int64, rising: the ids of clusters 0 to C − 1; those from C on are proposed births.
    k
        K.
    """

    features: Float32
    refs: Int64
    clusters: Int64
    known: NDArray[np.bool_]
    ids: Int64
    k: int

    @classmethod
    def of(cls, lineage: Lineage, memory: Memory) -> "Rehearsal":
        """Gather them, of the current version."""
        own, pool = memory.reservoir, memory.pool
        recent, features = _recent(lineage, own.refs)
        ids = np.unique(own.ids)
        fresh, k = np.full(len(pool), -1), len(ids)
        arrays = lineage.arrays(FILE)
        for one in lineage.current.open:
            if one.kind == "birth":
                members = np.isin(pool.refs, arrays[f"{one.id}.refs"]) & (fresh < 0)
                if members.sum() >= LEAST:
                    fresh[members], k = k, k + 1
        clusters = np.concatenate([np.searchsorted(ids, own.ids), fresh, np.full(len(recent), -1)])
        known = np.concatenate([np.ones(len(own), bool), fresh >= 0, np.ones(len(recent), bool)])
        refs = np.concatenate([own.refs, pool.refs, recent])
        rows = np.concatenate([own.features.astype(np.float32), pool.features.astype(np.float32), features])
        order = np.argsort(refs)
        return cls(rows[order], refs[order], clusters[order], known[order], ids, k)

    def write(self, folder: Path, backbone: Settings) -> None:
        """Write them as a feature store, where it is not there from before a kill."""
        if (folder / LISTING).exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        settings = backbone.model_copy(update={"dtype": "float32", "views": 0, "view_settings": None})
        form, width = schema(self.features.shape[1], 0, "float32", {}), self.features.shape[1]
        batches = []
        for start in range(0, len(self.refs), ROWS):
            rows = slice(start, start + ROWS)
            names = [str(ref) for ref in self.refs[rows].tolist()]
            none = np.full(len(names), -1)
            kept = encode(torch.from_numpy(self.features[rows]), "float32")
            batches.append(record_batch(form, names, none, none >= 0, [kept]))
        name = f"remembered{ENDING}"
        written = write_file(folder / name, form, batches)
        shard = Shard("remembered.tar", written.rows, written.bytes, written.sha256, SPLIT)
        file = FeatureFile(
            name=name, rows=written.rows, bytes=written.bytes, sha256=written.sha256, shard=shard
        )
        data = ListedDataSet(root=str(folder), name="remembered", splits=(SPLIT,), digest=written.sha256)
        Listing(settings=settings, width=width, data=data, files=(file,), complete=True).save(folder)


def _recent(lineage: Lineage, known: Int64) -> tuple[Int64, Float32]:
    """Return some images with an id that updates have brought since the network was made: refs and features."""
    current = lineage.current
    tables, refs = dict[int, TableFile](), np.empty(0, np.int64)
    for shard in TablesAt(lineage, lineage.number, since=current.files[NETWORK].version):
        found = np.setdiff1d(shard.refs[shard.ids >= 0], known)
        refs = np.concatenate([refs, found])
        refs = refs[np.argsort(places(refs, current.seed), kind="stable")[:RECENT]]
        tables[shard.table.number] = shard.table
    width = lineage.reservoir().features.shape[1]
    read = reader_of_tables(lineage)
    found_refs, features = [np.empty(0, np.int64)], [np.empty((0, width), np.float32)]
    for number in np.unique(tables_and_rows(refs)[0]).tolist():
        rows = read(tables[number])
        if rows is not None:  # else its features were deleted: it is not trained on
            chosen = np.isin(rows.refs, refs)
            found_refs.append(rows.refs[chosen])
            features.append(rows.features[chosen])
    return np.concatenate(found_refs), np.concatenate(features)
