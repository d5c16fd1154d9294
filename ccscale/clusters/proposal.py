"""Changes of clusters that the data suggest, and how they are found. Pure.

birth   the groups of new images, with all images of the pool that are nearest to them, by their margins
merge   clusters that had a valley between them, and have grown together
split   a cluster that was one, and has come apart: there is a valley within, and there was none
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.groups import LEAST, VALLEY
from ccscale.clusters.margins import nearer
from ccscale.clusters.new_images import NewImages
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.separation import halves, valley_p_value
from ccscale.clusters.state import State
from ccscale.clusters.valleys import rows_of
from ccscale.features.vectors import unit_rows
from ccscale.wording import counted

FILLED = 0.5  # the chance of what lies between, were there no valley, from which on there is none
WHOLE = 0.05  # the chance of a valley by chance from which on a cluster counted as one

Kind = Literal["birth", "merge", "split"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Proposal:
    """A birth, a merge or a split.

    Attributes
    ----------
    kind
        Which.
    ids
        The clusters concerned: those to merge, or the one to split; none for a birth.
    refs
        (m,) int64: its remembered images: those of the new cluster, or of the clusters concerned.
    facts
        Figures, as JSON.
    sentence
        As a sentence.
    parts
        (m,) int64: of a split, which part each image goes to, the larger one first; else none.
    """

    kind: Kind
    ids: tuple[int, ...]
    refs: Int64
    facts: dict[str, Any]
    sentence: str
    parts: Int64 = field(default_factory=lambda: np.empty(0, np.int64))


def births(new_images: NewImages, state: State, reservoir: Reservoir, pool: Pool) -> list[Proposal]:
    """Propose the groups of new images, once the pool contains them."""
    groups = assign_images(
        state, pool.features.astype("float32"), pool.heads, pool.confidence, pool.refs, new_images
    ).groups
    found = []
    for number, group in enumerate(new_images.groups):
        own = pool.subset(groups == number)
        if not group.is_stable or not len(own):
            continue
        centre = unit_rows(state.space(own.features).mean(axis=0)[None])[0]
        refs = own.refs[nearer(state, reservoir, own, centre)]
        facts = group.facts | {"images": len(refs)}
        if len(refs) >= LEAST:
            found.append(
                Proposal(
                    "birth",
                    (),
                    refs,
                    facts | {"nearest": group.nearest},
                    _birth(facts, group.nearest),
                )
            )
    return found


def _birth(facts: dict[str, float], nearest: int) -> str:
    beside = (
        f", apart from cluster {nearest}, the nearest ({facts['separation']:.1%})" if nearest >= 0 else ""
    )
    return (
        f"{counted(int(facts['images']), 'image')} lie together where there were none before{beside}, and are "
        f"found together again when some are left out ({facts['stability']:.0%})"
    )


def merges(state: State, reservoir: Reservoir) -> list[Proposal]:
    """Propose to join clusters, two at a time, each in one proposal at most; the most confident first."""
    rows = state.space(reservoir.features)
    present = set(state.clusters.tolist())
    were = {
        (min(own, other), max(own, other))
        for own, near, parted in zip(state.ids.tolist(), state.near.tolist(), state.parted, strict=True)
        for other, chance in zip(near, parted, strict=True)
        if chance <= VALLEY and other in present and other != own
    }
    found = [
        (valley_p_value(rows_of(rows, reservoir.ids, one), rows_of(rows, reservoir.ids, other)), one, other)
        for one, other in sorted(were)
    ]
    proposals, taken = [], set[int]()
    for chance, one, other in sorted(found, key=lambda each: (-each[0], each[1:])):
        if chance >= FILLED and not taken & {one, other}:
            taken |= {one, other}
            proposals.append(_merge(reservoir, one, other, chance))
    return proposals


def _merge(reservoir: Reservoir, one: int, other: int, chance: float) -> Proposal:
    refs = reservoir.refs[np.isin(reservoir.ids, (one, other))]
    sentence = f"between clusters {one} and {other}, which were apart, lie as many images now as in them"
    return Proposal("merge", (one, other), refs, {"no_valley": chance, "remembered": len(refs)}, sentence)


def splits(state: State, reservoir: Reservoir) -> list[Proposal]:
    """Propose to divide clusters, each into two."""
    rows, found = state.space(reservoir.features), []
    for cluster in state.clusters.tolist():
        of = np.flatnonzero(reservoir.ids == cluster)
        if state.whole[state.ids == cluster].min() < WHOLE or len(of) < 2 * LEAST:
            continue
        first, second = halves(rows[of])
        if len(second) < LEAST:
            continue
        chance = valley_p_value(rows[of[first]], rows[of[second]])
        if chance > VALLEY:
            continue
        parts = np.zeros(len(of), np.int64)
        parts[second] = 1
        facts = {"no_valley": chance, "first": len(first), "second": len(second)}
        sentence = (
            f"cluster {cluster}, which was one, has come apart: of {len(of)} of its images {len(first)} and "
            f"{len(second)} lie together, with fewer between"
        )
        found.append(Proposal("split", (cluster,), reservoir.refs[of], facts, sentence, parts))
    return found
