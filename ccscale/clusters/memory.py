"""The memory of a version: its clusters, some images of each, and unassigned ones; updated with new shards."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.arrays import write_arrays
from ccscale.clusters.draft import Draft, disk_errors_as_fault
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.shard_tables import NewShard, ids_of
from ccscale.clusters.state import State
from ccscale.clusters.tables import UNASSIGNED
from ccscale.clusters.version import Kept, TableFile
from ccscale.evaluate.reliability import assign_features
from ccscale.model.network import ContrastiveClustering


@dataclass(frozen=True)
class Memory:
    """The arrays of a version."""

    state: State
    reservoir: Reservoir
    pool: Pool

    @classmethod
    def of(cls, lineage: Lineage, number: int | None = None) -> "Memory":
        """Return that of a version."""
        return cls(lineage.state(number), lineage.reservoir(number), lineage.pool(number))

    def after(
        self, draft: Draft, shard: NewShard, table: TableFile, network: ContrastiveClustering, seed: int
    ) -> "Memory":
        """Return it with the images of a shard, whose table is written."""
        rows = shard.read()
        ids = ids_of(draft, table)[rows.good]
        none = ids == UNASSIGNED
        heads, confidence = assign_features(network, rows.features[none])
        pool, _ = self.pool.taken(rows.features[none], rows.refs[none], heads, confidence, draft.number, seed)
        return Memory(
            self.state.grown(ids),
            self.reservoir.taken(rows.features, ids, rows.refs, seed),
            pool,
        )

    def moved(self, refs: Int64, former: Int64, ids: Int64) -> "Memory":
        """Return it with images (n,) that have other ids than before, as far as it remembers them."""
        sizes = self.state.sizes.copy()
        for one, sign in ((former, -1), (ids, 1)):
            for cluster, count in zip(*np.unique(one[one >= 0], return_counts=True), strict=True):
                if (places := np.flatnonzero(self.state.ids == cluster)).size:
                    sizes[places[0]] += sign * count
        order = np.argsort(refs)
        refs, ids = refs[order], ids[order]
        own = self.reservoir
        at = np.minimum(np.searchsorted(refs, own.refs), max(len(refs) - 1, 0))
        known = refs[at] == own.refs if len(refs) else np.zeros(len(own), bool)
        new = np.where(known, ids[at], own.ids) if len(refs) else own.ids
        return replace(
            self,
            state=replace(self.state, sizes=sizes),
            reservoir=replace(own, ids=new).subset(new >= 0),
            pool=self.pool.without(refs[ids >= 0]),
        )

    def sized(self, sizes: Mapping[int, int]) -> "Memory":
        """Return it with clusters of other sizes."""
        new = self.state.sizes.copy()
        for cluster, size in sizes.items():
            own = self.state.ids == cluster
            new[own] = 0
            new[np.flatnonzero(own)[0]] = size
        return replace(self, state=replace(self.state, sizes=new))

    def save(self, draft: Draft) -> dict[str, Kept]:
        """Write the arrays into the version that is being made; return what it lists of them."""
        files = {}
        with disk_errors_as_fault(draft.clusters):
            for name in ("state", "reservoir", "pool"):
                sha256 = write_arrays(draft.folder / f"{name}.npz", getattr(self, name).arrays())
                files[name] = Kept(version=draft.number, sha256=sha256)
        return files
