"""Assigns images that have an id again, if their features still exist."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.draft import Draft, disk_errors_as_fault
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.shard_tables import NewShard, ShardRows
from ccscale.clusters.state import State
from ccscale.clusters.tables import BAD, TablesAt, write_changes
from ccscale.clusters.version import CHANGES, TableFile
from ccscale.errors import InputError
from ccscale.evaluate.reliability import assign_features
from ccscale.features.listing import FeatureFile, read_listing
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import say
from ccscale.wording import agree, counted


def _none() -> Int64:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class IdChanges:
    """Images that get another id: which, (n,) rising, the former ones, (n,), and the new ones, (n,)."""

    refs: Int64 = field(default_factory=_none)
    former: Int64 = field(default_factory=_none)
    ids: Int64 = field(default_factory=_none)

    def then(self, later: "IdChanges") -> "IdChanges":
        """Return both, one behind the other: an image that changes twice goes from its first id to its last."""
        refs = np.union1d(self.refs, later.refs)
        former, ids = np.empty(len(refs), np.int64), np.empty(len(refs), np.int64)
        for one in (later, self):
            former[np.searchsorted(refs, one.refs)] = one.former
        for one in (self, later):
            ids[np.searchsorted(refs, one.refs)] = one.ids
        return IdChanges(refs, former, ids)

    def renamed(self, ids: dict[int, int]) -> "IdChanges":
        """Return them with new ids that have got other ones since."""
        new = self.ids.copy()
        for old, one in ids.items():
            new[self.ids == old] = one
        return IdChanges(self.refs, self.former, new)

    def without(self, refs: Int64) -> "IdChanges":
        """Return them without those of some images."""
        kept = ~np.isin(self.refs, refs)
        return IdChanges(self.refs[kept], self.former[kept], self.ids[kept])

    def save(self, draft: Draft, lineage: Lineage) -> str | None:
        """Write them into the version that is being made; return the file's hash, None for no changes."""
        if not len(self.refs):
            return None
        with disk_errors_as_fault(draft.clusters):
            return write_changes(draft.folder / CHANGES, lineage, self.refs, self.former, self.ids)


def reassigned(
    lineage: Lineage,
    state: State,
    network: ContrastiveClustering,
    within: Collection[int] | None = None,
    renamed: dict[int, int] | None = None,
) -> IdChanges:
    """Assign images of the current version again.

    Parameters
    ----------
    lineage
        Whose tables are gone through.
    state
        The clusters as they are to be.
    network
        Theirs.
    within
        Only images of these clusters are assigned, to one of these; by default all, and they may be left
        unassigned.
    renamed
        Ids that images have got otherwise meanwhile.

    Returns
    -------
    Changes
        Those whose id is another one.
    """
    changes, missing = [IdChanges()], 0
    read = reader_of_tables(lineage)
    held = state if within is None else state.only(np.isin(state.ids, list(within)))
    for shard in TablesAt(lineage, lineage.number):
        ids = shard.ids.copy()
        for old, new in (renamed or {}).items():
            ids[ids == old] = new
        wanted = ids != BAD if within is None else np.isin(ids, list(within))
        if not wanted.any():
            continue
        rows = read(shard.table)
        if rows is None:
            missing += int(wanted.sum())
            continue
        chosen = wanted[rows.good]
        answers = assign_images(held, rows.features[chosen], *assign_features(network, rows.features[chosen]))
        refs, former = rows.refs[chosen], ids[rows.good][chosen]
        new_ids = answers.ids if within is None else np.where(answers.ids < 0, former, answers.ids)
        other = new_ids != former
        changes.append(IdChanges(refs[other], former[other], new_ids[other]))
    if missing:
        are = agree(missing, "stays as it is", "stay as they are")
        say(f"{counted(missing, 'image')} {are}: the store with their features is missing or was rebuilt")
    columns = ([getattr(one, name) for one in changes] for name in ("refs", "former", "ids"))
    return IdChanges(*map(np.concatenate, columns))


def reader_of_tables(lineage: Lineage) -> Callable[[TableFile], ShardRows | None]:
    """Return what reads the features of a table's images; it returns None if they are not there as they were."""

    @cache
    def files_of(store: Path) -> dict[str, FeatureFile]:
        try:
            return {file.shard.url: file for file in read_listing(store).files}
        except InputError:
            return {}

    def read(table: TableFile) -> ShardRows | None:
        store = lineage.features(table)
        file = files_of(store).get(table.shard.url)
        if file is None or file.rows != table.rows or not (store / file.name).exists():
            return None
        return NewShard(table.number, table.data, table.store, store, file).read()

    return read
