"""Merges: clusters that had a valley between them, and have grown together. Pure."""

import numpy as np

from ccscale.clusters.apart import no_valley
from ccscale.clusters.groups import VALLEY
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Reservoir
from ccscale.clusters.standing import rows_of
from ccscale.clusters.state import State

FILLED = 0.5  # the chance of what lies between, were there no valley, from which on there is none


def merges(state: State, reservoir: Reservoir) -> list[Proposal]:
    """Propose to join clusters, two at a time, each in one proposal at most; the surest first."""
    rows = state.space(reservoir.features)
    present = set(state.clusters.tolist())
    were = {
        (min(own, other), max(own, other))
        for own, near, parted in zip(state.ids.tolist(), state.near.tolist(), state.parted, strict=True)
        for other, chance in zip(near, parted, strict=True)
        if chance <= VALLEY and other in present and other != own
    }
    found = [
        (no_valley(rows_of(rows, reservoir.ids, one), rows_of(rows, reservoir.ids, other)), one, other)
        for one, other in sorted(were)
    ]
    proposals, taken = [], set[int]()
    for chance, one, other in sorted(found, key=lambda each: (-each[0], each[1:])):
        if chance >= FILLED and not taken & {one, other}:
            taken |= {one, other}
            proposals.append(_proposal(reservoir, one, other, chance))
    return proposals


def _proposal(reservoir: Reservoir, one: int, other: int, chance: float) -> Proposal:
    refs = reservoir.refs[np.isin(reservoir.ids, (one, other))]
    sentence = f"between clusters {one} and {other}, which were apart, lie as many images now as in them"
    return Proposal("merge", (one, other), refs, {"no_valley": chance, "remembered": len(refs)}, sentence)
