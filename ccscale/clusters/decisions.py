"""``ccscale lineage accept|refuse`` and ``update --reassign``: proposals become events, or are not made again.

The images of a merged cluster all get the other's id. In a split, all images of the cluster whose features still
exist are assigned to the nearer of the two parts. A birth gives its id to the images of the proposal that are
still remembered; then unassigned images are examined again (`applying.py`).
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.clusters.applying import apply_proposals, settled
from ccscale.clusters.draft import Draft, begin_draft, exclusive_writer
from ccscale.clusters.lineage import Lineage, open_lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.proposal_search import FILE, proposal_of
from ccscale.clusters.reassigning import IdChanges, reassigned
from ccscale.clusters.tables import UNASSIGNED
from ccscale.clusters.version import Event, Proposed, Version
from ccscale.errors import InputError, did_you_mean
from ccscale.model.export import load
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import say
from ccscale.wording import agree, counted


def accept(run: str | Path, ids: Sequence[str], device: str = "auto") -> int | None:
    """Accept open proposals, in one new version; all ranks call it together.

    Returns
    -------
    int or None
        The new version; None where all of them were accepted before.

    Raises
    ------
    InputError
        If there is no such proposal, or it is not open.
    Fault
        If it cannot be written.
    """
    with exclusive_writer(run, device):
        return dist.on_rank_zero(lambda: _accept(open_lineage(run), ids))


def accept_kinds(run: str | Path, kinds: Collection[str], device: str = "auto") -> int | None:
    """Accept all open proposals of some kinds, as `accept` does; None if there are none."""
    with exclusive_writer(run, device):

        def all_of_them() -> int | None:
            lineage = open_lineage(run)
            ids = [one.id for one in lineage.current.open if one.kind in kinds]
            return _accept(lineage, ids, told=True) if ids else None

        return dist.on_rank_zero(all_of_them)


def refuse(run: str | Path, ids: Sequence[str]) -> int | None:
    """Refuse open proposals, in one new version: they are not made again. Returns and raises as `accept` does."""
    with exclusive_writer(run, "cpu"):
        return dist.on_rank_zero(lambda: _refuse(open_lineage(run), ids))


def reassign(run: str | Path, device: str = "auto") -> int | None:
    """Assign all images again with the current clusters; all ranks call it together.

    Returns
    -------
    int or None
        The new version; None where no image has another id.
    """
    with exclusive_writer(run, device):
        return dist.on_rank_zero(lambda: _reassign(open_lineage(run)))


def _accept(lineage: Lineage, ids: Sequence[str], told: bool = False) -> int | None:
    """Accept proposals; one that is no longer possible is reported and stays open, or is an error if named."""
    accepted = {event.proposal for _, event in lineage.events()}
    chosen = _open(lineage, ids, accepted, "accepted")
    if not chosen:
        return None
    draft = begin_draft(lineage.folder, "accept", f"accept {' '.join(one.id for one in chosen)}")
    after = _Acceptance(lineage)
    for one in chosen:
        try:
            after.take(one)
        except InputError as error:
            if not told:
                raise InputError(f"{one.id} cannot be accepted: {error}") from None
            say(f"{one.id} stays open: {error}")
    return after.commit(draft) if after.events else None


class _Acceptance:
    """Applies accepted proposals to a version, one after the other."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage, self.arrays = lineage, lineage.arrays(FILE)
        self.memory, self.changes = Memory.of(lineage), IdChanges()
        self.events, self.renamed = list[Event](), dict[int, int]()
        self.next_id = lineage.newest().next_id

    def take(self, one: Proposed) -> None:
        """Apply a proposal.

        Raises
        ------
        InputError
            If that is no longer possible; then nothing is changed.
        """
        before, seed = self.memory.state, self.lineage.current.seed
        applied = apply_proposals(
            proposal_of(one, self.arrays), before, self.memory.pool, self.memory.reservoir, self.next_id, seed
        )
        event = applied.event.model_copy(update={"proposal": one.id})
        self.next_id = max(self.next_id, int(applied.state.clusters.max()) + 1)
        self.memory = Memory(applied.state, applied.reservoir, applied.pool)
        former = np.full(len(applied.refs), UNASSIGNED if one.kind == "birth" else one.ids[0], np.int64)
        self.changes = self.changes.then(IdChanges(applied.refs, former, applied.ids))
        self.renamed = {old: applied.renamed.get(new, new) for old, new in self.renamed.items()}
        self.renamed |= applied.renamed
        if one.kind == "split":
            images = self._divide(one.ids[0], event.ids[0], applied.refs, before.size_of(one.ids[0]))
            event = event.model_copy(update={"images": images})
        self.events.append(event)

    def _divide(self, cluster: int, new: int, refs: Int64, size: int) -> int:
        """Assign the images of a split cluster again, except `refs`; return how many the new one has."""
        others = reassigned(self.lineage, self.memory.state, self._network, {cluster, new}, self.renamed)
        others = others.without(refs)
        moved = len(refs) + len(others.refs)
        memory = self.memory.moved(others.refs, others.former, others.ids)
        self.memory = memory.sized({new: moved, cluster: size - moved})
        self.changes = self.changes.then(others)
        return moved

    @cached_property
    def _network(self) -> ContrastiveClustering:
        return load(self.lineage.network())

    def commit(self, draft: Draft) -> int:
        """Write the version; return its number."""
        self.changes = self.changes.renamed(self.renamed)
        current, taken = self.lineage.current, {event.proposal for event in self.events}
        left = tuple(
            one
            for one in current.proposals
            if one.id not in taken and not (set(one.ids) & {*self.renamed} and one.kind != "birth")
        )
        self._settle(left)
        merged = sum(self.lineage.state().size_of(old) for old in self.renamed)
        return commit_change(
            self.lineage,
            draft,
            next_id=self.next_id,
            events=tuple(self.events),
            renamed=self.renamed,
            proposals=left,
            changes=self.changes.save(draft, self.lineage),
            changed=len(self.changes.refs) + merged,
            files=current.files | self.memory.save(draft),
            counts=counts_after(current, self.changes),
        )

    def _settle(self, left: Sequence[Proposed]) -> None:
        """Assign unassigned images again if clusters were born, except those of open births."""
        born = [place for place, event in enumerate(self.events) if event.kind == "born"]
        if not born:
            return
        waiting = [
            self.arrays[f"{one.id}.refs"] for one in left if one.kind == "birth" and one.refused is None
        ]
        waiting_refs = np.concatenate([np.empty(0, np.int64), *waiting])
        own = self.memory
        refs, ids = settled(own.state, own.reservoir, own.pool, waiting_refs, self.lineage.current.seed)
        more = IdChanges(refs, np.full(len(refs), UNASSIGNED), ids)
        self.memory, self.changes = own.moved(more.refs, more.former, more.ids), self.changes.then(more)
        if count := len(refs):
            have = agree(count, "has", "have")
            also = f"; {counted(count, 'image')} that had been left without a cluster {have} one now"
            last = self.events[born[-1]]
            self.events[born[-1]] = last.model_copy(update={"sentence": last.sentence + also})


def _refuse(lineage: Lineage, ids: Sequence[str]) -> int | None:
    refused = {one.id for one in lineage.current.proposals if one.refused is not None}
    chosen = _open(lineage, ids, refused, "refused")
    if not chosen:
        return None
    names = {one.id for one in chosen}
    draft = begin_draft(lineage.folder, "refuse", f"refuse {' '.join(sorted(names))}")
    proposals = tuple(
        one.model_copy(update={"refused": draft.number}) if one.id in names else one
        for one in lineage.current.proposals
    )
    return commit_change(lineage, draft, proposals=proposals)


def _reassign(lineage: Lineage) -> int | None:
    current, memory = lineage.current, Memory.of(lineage)
    changes = reassigned(lineage, memory.state, load(lineage.network()))
    if not len(changes.refs):
        return None
    draft = begin_draft(lineage.folder, "reassign", "all images, by the clusters as they are")
    memory = memory.moved(changes.refs, changes.former, changes.ids)
    return commit_change(
        lineage,
        draft,
        changes=changes.save(draft, lineage),
        changed=len(changes.refs),
        files=current.files | memory.save(draft),
        counts=counts_after(current, changes),
    )


def _open(lineage: Lineage, ids: Sequence[str], done: Collection[str | None], what: str) -> list[Proposed]:
    """Return the open proposals with some names; those that are `done` are reported and left out."""
    there = {one.id: one for one in lineage.current.open}
    chosen = []
    for one in dict.fromkeys(ids):
        if one in there:
            chosen.append(there[one])
        elif one in done:
            say(f"{one} was {what} before")
        else:
            open_ones = f"open are {', '.join(there)}" if there else "none is open"
            raise InputError(
                f"{lineage.run} has no open proposal {one!r}{did_you_mean(one, there)}; {open_ones} "
                f"(`ccscale lineage show {lineage.run}`)"
            )
    return chosen


def counts_after(current: Version, changes: IdChanges) -> dict[str, int]:
    """Return how many images have an id after some have changed."""
    more = int(np.sum((changes.former == UNASSIGNED) & (changes.ids >= 0)))
    less = int(np.sum((changes.former >= 0) & (changes.ids == UNASSIGNED)))
    counts = dict(current.counts)
    counts["assigned"] += more - less
    counts["unassigned"] += less - more
    return counts


def commit_change(lineage: Lineage, draft: Draft, **fields: Any) -> int:
    """Write a version: the current one with some fields changed, by default without new images."""
    newest = lineage.newest()
    content: dict[str, Any] = {"changes": None, "changed": 0, "renamed": {}, "events": (), "tables": ()}
    content |= {
        "next_id": newest.next_id,
        "next_table": newest.next_table,
        "next_proposal": newest.next_proposal,
    }
    content |= {"number": draft.number, "parent": draft.parent, "why": draft.why, "when": draft.when}
    draft.commit(lineage.current.model_copy(update=content | {"asked": draft.asked} | fields))
    return draft.number
