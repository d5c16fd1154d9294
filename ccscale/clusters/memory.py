"""What a version remembers: its clusters, some images of each, and those without one; with images of new shards."""

from dataclasses import dataclass

from ccscale.clusters.arrays import write_arrays
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.shards import NewShard, ids_of
from ccscale.clusters.state import State
from ccscale.clusters.tables import UNASSIGNED
from ccscale.clusters.version import Kept, TableFile
from ccscale.clusters.writing import Draft, told
from ccscale.evaluate.sureness import assign_features
from ccscale.model.network import ContrastiveClustering


@dataclass(frozen=True)
class Memory:
    """The arrays of a version.

    Attributes
    ----------
    state, reservoir, pool
        See there.
    forgotten
        Images without a cluster that the pool has no room for any more.
    """

    state: State
    reservoir: Reservoir
    pool: Pool
    forgotten: int = 0

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
        pool, forgotten = self.pool.taken(
            rows.features[none], rows.refs[none], heads, confidence, draft.number, seed
        )
        return Memory(
            self.state.grown(ids),
            self.reservoir.taken(rows.features, ids, rows.refs, seed),
            pool,
            self.forgotten + forgotten,
        )

    def save(self, draft: Draft) -> dict[str, Kept]:
        """Write the arrays into the version that is being made; return what it lists of them."""
        files = {}
        with told(draft.clusters):
            for name in ("state", "reservoir", "pool"):
                sha256 = write_arrays(draft.folder / f"{name}.npz", getattr(self, name).arrays())
                files[name] = Kept(version=draft.number, sha256=sha256)
        return files
