"""``ccscale lineage accept|refuse`` and ``update --reassign``: proposals become events, or are not made again.

A merged cluster's images get the other's id all at once. Of a split cluster all images are looked at again whose
features are still there: which of the two it is that each is nearer to. A birth gives its id to the images that it
was proposed of, as far as they are remembered; then unassigned images are looked at once more (`settling.py`).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.clusters.changing import apply
from ccscale.clusters.lineage import Lineage, open_lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.proposing import FILE, proposal_of
from ccscale.clusters.reassigning import Changes, reassigned
from ccscale.clusters.settling import settled
from ccscale.clusters.tables import UNASSIGNED
from ccscale.clusters.version import Event, Proposed, Version
from ccscale.clusters.writing import Draft, begin, only_writer
from ccscale.errors import InputError, nearest
from ccscale.model.export import load
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
        If the disk does not take it.
    """
    with only_writer(run, device):
        return dist.on_rank_zero(lambda: _accept(open_lineage(run), ids))


def accept_kinds(run: str | Path, kinds: Collection[str], device: str = "auto") -> int | None:
    """Accept all open proposals of some kinds, as `accept` does; None where there are none."""
    with only_writer(run, device):

        def all_of_them() -> int | None:
            lineage = open_lineage(run)
            ids = [one.id for one in lineage.current.open if one.kind in kinds]
            return _accept(lineage, ids, told=True) if ids else None

        return dist.on_rank_zero(all_of_them)


def refuse(run: str | Path, ids: Sequence[str]) -> int | None:
    """Refuse open proposals, in one new version: they are not made again. Returns and raises as `accept` does."""
    with only_writer(run, "cpu"):
        return dist.on_rank_zero(lambda: _refuse(open_lineage(run), ids))


def reassign(run: str | Path, device: str = "auto") -> int | None:
    """Look at all images again, by the clusters as they are now; all ranks call it together.

    Returns
    -------
    int or None
        The new version; None where no image has another id.
    """
    with only_writer(run, device):
        return dist.on_rank_zero(lambda: _reassign(open_lineage(run)))


def _accept(lineage: Lineage, ids: Sequence[str], told: bool = False) -> int | None:
    """Accept proposals; one that cannot be any more is told, and stays open, or (by name) refuses them all."""
    accepted = {event.proposal for _, event in lineage.events()}
    chosen = _open(lineage, ids, accepted, "accepted")
    if not chosen:
        return None
    draft = begin(lineage.folder, "accept", f"accept {' '.join(one.id for one in chosen)}")
    current, arrays = lineage.current, lineage.arrays(FILE)
    next_id, memory, changes = lineage.newest().next_id, Memory.of(lineage), Changes()
    events, renamed = list[Event](), dict[int, int]()
    network = load(lineage.network()) if any(one.kind == "split" for one in chosen) else None
    for one in chosen:
        try:
            applied = apply(
                proposal_of(one, arrays), memory.state, memory.pool, memory.reservoir, next_id, current.seed
            )
        except InputError as error:
            if not told:
                raise InputError(f"{one.id} cannot be accepted: {error}") from None
            say(f"{one.id} stays open: {error}")
            continue
        event, before = applied.event.model_copy(update={"proposal": one.id}), memory.state
        next_id = max(next_id, int(applied.state.clusters.max()) + 1)
        memory = replace(memory, state=applied.state, pool=applied.pool, reservoir=applied.reservoir)
        former = np.full(len(applied.refs), UNASSIGNED if one.kind == "birth" else one.ids[0], np.int64)
        changes = changes.then(Changes(applied.refs, former, applied.ids))
        renamed = {old: applied.renamed.get(new, new) for old, new in renamed.items()} | applied.renamed
        if network is not None and one.kind == "split":
            others = reassigned(lineage, memory.state, network, {*one.ids, *event.ids}, renamed)
            others = others.without(applied.refs)
            moved = len(applied.refs) + len(others.refs)
            memory, changes = memory.moved(others.refs, others.former, others.ids), changes.then(others)
            memory = memory.sized({event.ids[0]: moved, one.ids[0]: before.size_of(one.ids[0]) - moved})
            event = event.model_copy(update={"images": moved})
        events.append(event)
    if not events:
        return None
    changes = changes.renamed(renamed)
    taken, gone = {event.proposal for event in events}, {*renamed}
    left = tuple(
        one
        for one in current.proposals
        if one.id not in taken and not (set(one.ids) & gone and one.kind != "birth")
    )
    if born := [place for place, event in enumerate(events) if event.kind == "born"]:
        waiting = [arrays[f"{one.id}.refs"] for one in left if one.kind == "birth" and one.refused is None]
        more = _settled(memory, waiting, current.seed)
        memory, changes = memory.moved(more.refs, more.former, more.ids), changes.then(more)
        if count := len(more.refs):
            have = agree(count, "has", "have")
            also = f"; {counted(count, 'image')} that had been left without a cluster {have} one now"
            last = events[born[-1]]
            events[born[-1]] = last.model_copy(update={"sentence": last.sentence + also})
    merged = sum(lineage.state().size_of(old) for old in renamed)
    return commit_change(
        lineage,
        draft,
        next_id=next_id,
        events=tuple(events),
        renamed=renamed,
        proposals=left,
        changes=changes.save(draft, lineage),
        changed=len(changes.refs) + merged,
        files=current.files | memory.save(draft),
        counts=counts_after(current, changes),
    )


def _settled(memory: Memory, waiting: Sequence[Int64], seed: int) -> Changes:
    """Return the unassigned images that have a cluster once others were born, but for some that are proposed."""
    none = np.empty(0, np.int64)
    refs, ids = settled(memory.state, memory.reservoir, memory.pool, np.concatenate([none, *waiting]), seed)
    return Changes(refs, np.full(len(refs), UNASSIGNED), ids)


def _refuse(lineage: Lineage, ids: Sequence[str]) -> int | None:
    refused = {one.id for one in lineage.current.proposals if one.refused is not None}
    chosen = _open(lineage, ids, refused, "refused")
    if not chosen:
        return None
    names = {one.id for one in chosen}
    draft = begin(lineage.folder, "refuse", f"refuse {' '.join(sorted(names))}")
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
    draft = begin(lineage.folder, "reassign", "all images, by the clusters as they are")
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
    """Return the open proposals of some names; those that are `done` are told, and left out."""
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
                f"{lineage.run} has no open proposal {one!r}{nearest(one, there)}; {open_ones} "
                f"(`ccscale lineage show {lineage.run}`)"
            )
    return chosen


def counts_after(current: Version, changes: Changes) -> dict[str, int]:
    """Return how many images have an id after some have changed."""
    more = int(np.sum((changes.former == UNASSIGNED) & (changes.ids >= 0)))
    less = int(np.sum((changes.former >= 0) & (changes.ids == UNASSIGNED)))
    counts = dict(current.counts)
    counts["assigned"] += more - less
    counts["unassigned"] += less - more
    return counts


def commit_change(lineage: Lineage, draft: Draft, **fields: Any) -> int:
    """Write a version: the current one but for some fields, without new images where these do not say so."""
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
