"""Finds proposals after an update: births, merges, splits; earlier ones keep their names.

A proposal is the same as an earlier one if it is of the same kind and concerns the same clusters or, for a birth,
mostly the same images. One that was refused stays refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.arrays import Arrays, write_arrays
from ccscale.clusters.draft import Draft, disk_errors_as_fault
from ccscale.clusters.images import Images
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.new_images import NewImages
from ccscale.clusters.pictures import draw_proposal
from ccscale.clusters.proposal import Proposal, births, merges, splits
from ccscale.clusters.version import PICTURES, DataSet, Kept, Proposed, TableFile

ALIKE = 0.5  # of the images of the smaller one: from there on two births are the same
FILE = "proposals"


@dataclass(frozen=True)
class Proposals:
    """What is proposed at a version.

    Attributes
    ----------
    listed
        As the version lists them.
    next
        The least number that none has had.
    files
        What the version lists of their arrays.
    """

    listed: tuple[Proposed, ...]
    next: int
    files: dict[str, Kept]


def propose(
    draft: Draft,
    lineage: Lineage,
    memory: Memory,
    new_images: NewImages,
    tables: Sequence[TableFile],
    data: tuple[DataSet, ...],
    next_proposal: int,
) -> Proposals:
    """Find what is to be proposed, draw it, and keep it; on one rank.

    Parameters
    ----------
    draft
        The version that is being made.
    lineage
        Of the version before.
    memory
        What the new version remembers.
    new_images
        What it brought.
    tables, data
        That the new version adds; all data sets.
    next_proposal
        The least number that none has had.
    """
    current = lineage.current
    before = lineage.arrays(FILE)
    found = [
        *births(new_images, memory.state, memory.reservoir, memory.pool),
        *merges(memory.state, memory.reservoir),
        *splits(memory.state, memory.reservoir),
    ]
    by_number = {number: table for number, (_, table) in lineage.tables().items()}
    images = Images(by_number | {table.number: table for table in tables}, data)
    listed: dict[str, Proposed] = {one.id: one for one in current.proposals if one.refused is not None}
    arrays: Arrays = {name: array for name, array in before.items() if name.partition(".")[0] in listed}
    left = list(current.proposals)
    for proposal in found:
        same = next((one for one in left if is_same(proposal, one, before[f"{one.id}.refs"])), None)
        if same is not None:
            left.remove(same)
        if same is not None and same.refused is not None:
            continue
        name = f"p{next_proposal}" if same is None else same.id
        next_proposal += same is None
        with disk_errors_as_fault(draft.clusters):
            (draft.folder / PICTURES).mkdir(exist_ok=True)
            drawn = draw_proposal(draft.folder / PICTURES / f"{name}.png", name, proposal, memory, images)
        listed[name] = Proposed(
            id=name,
            kind=proposal.kind,
            ids=proposal.ids,
            images=len(proposal.refs),
            since=draft.number if same is None else same.since,
            facts=proposal.facts,
            sentence=proposal.sentence,
            picture=f"{name}.png" if drawn else None,
            drawn=draft.number if drawn else None,
        )
        arrays |= {f"{name}.refs": proposal.refs, f"{name}.parts": proposal.parts}
    files = {}
    with disk_errors_as_fault(draft.clusters):
        files[FILE] = Kept(version=draft.number, sha256=write_arrays(draft.folder / f"{FILE}.npz", arrays))
    return Proposals(tuple(listed.values()), next_proposal, files)


def is_same(proposal: Proposal, listed: Proposed, refs: Int64) -> bool:
    """Return whether a proposal is one that was listed before, with some images."""
    if proposal.kind != listed.kind:
        return False
    if proposal.kind != "birth":
        return sorted(proposal.ids) == sorted(listed.ids)
    shared = len(np.intersect1d(proposal.refs, refs))
    return shared > ALIKE * min(len(proposal.refs), len(refs))


def proposal_of(listed: Proposed, arrays: Arrays) -> Proposal:
    """Return a proposal that a version lists, with its images."""
    facts: dict[str, Any] = listed.facts
    return Proposal(
        kind=listed.kind,
        ids=listed.ids,
        refs=arrays[f"{listed.id}.refs"],
        facts=facts,
        sentence=listed.sentence,
        parts=arrays[f"{listed.id}.parts"],
    )
