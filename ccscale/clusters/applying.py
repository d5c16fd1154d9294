"""Applies proposals: clusters are born, merged or split, and the lineage gets an event. Pure functions.

An image is left unassigned where there were none before (`new_images.py`). Once its neighbours form a cluster, it
may belong to that cluster or to an adjacent one. So unassigned images are examined again after births; those still
among unassigned images stay unassigned.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.initial_state import centres_of, distances_of, tightness_of
from ccscale.clusters.margins import margins
from ccscale.clusters.new_images import NewImages
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State, no_margins
from ccscale.clusters.valleys import measure_valleys
from ccscale.clusters.version import Event
from ccscale.errors import InputError
from ccscale.features.vectors import unit_rows
from ccscale.wording import counted

LEAST = 2  # images that a cluster can be made of


def _none() -> Int64:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Applied:
    """The result of applying a proposal to a version.

    Attributes
    ----------
    state, pool, reservoir
        After it.
    event
        Its line in the lineage.
    renamed
        Clusters all of whose images have another id now.
    refs, ids
        (m,) int64: images that get an id one by one, and these.
    """

    state: State
    pool: Pool
    reservoir: Reservoir
    event: Event
    renamed: dict[int, int] = field(default_factory=dict)
    refs: Int64 = field(default_factory=_none)
    ids: Int64 = field(default_factory=_none)


def apply_proposals(
    proposal: Proposal, state: State, pool: Pool, reservoir: Reservoir, next_id: int, seed: int
) -> Applied:
    """Make a change.

    Raises
    ------
    InputError
        If too few of its images are remembered for a cluster, or one of its clusters no longer exists.
    """
    if not set(proposal.ids) <= set(state.clusters.tolist()):
        raise InputError("a cluster of the proposal no longer exists; the next update makes new proposals")
    if proposal.kind == "birth":
        return _born(proposal, state, pool, reservoir, next_id, seed)
    if proposal.kind == "merge":
        return _merged(proposal, state, pool, reservoir, seed)
    return _split(proposal, state, pool, reservoir, next_id, seed)


def _born(
    proposal: Proposal, state: State, pool: Pool, reservoir: Reservoir, next_id: int, seed: int
) -> Applied:
    own = pool.subset(np.isin(pool.refs, proposal.refs))
    _check(len(own))
    ids = np.full(len(own), next_id)
    more = reservoir.taken(own.features.astype(np.float32), ids, own.refs, seed)
    state = with_clusters(state, more, np.array([next_id]), [state.space(own.features)], np.array([-1]))
    event = Event(kind="born", ids=(next_id,), images=len(own), sentence=proposal.sentence)
    return Applied(state.grown(ids), pool.without(own.refs), more, event, refs=own.refs, ids=ids)


def _merged(proposal: Proposal, state: State, pool: Pool, reservoir: Reservoir, seed: int) -> Applied:
    kept = max(proposal.ids, key=lambda one: (state.size_of(one), -one))
    gone = tuple(one for one in proposal.ids if one != kept)
    images = sum(state.size_of(one) for one in gone)
    renamed = dict.fromkeys(gone, kept)
    ids = np.where(np.isin(state.ids, gone), kept, state.ids)
    # Of several heaps at once, none of which lies in the other's middle: that there is a valley is no news.
    whole = np.where(ids == kept, np.float32(0), state.whole)
    event = Event(kind="merged", ids=gone, others=(kept,), images=images, sentence=proposal.sentence)
    return Applied(
        replace(state, ids=ids, whole=whole), pool, reservoir.renamed(renamed, seed), event, renamed=renamed
    )


def _split(
    proposal: Proposal, state: State, pool: Pool, reservoir: Reservoir, next_id: int, seed: int
) -> Applied:
    (cluster,) = proposal.ids
    part = np.full(len(reservoir), -1)
    at = np.searchsorted(proposal.refs, reservoir.refs)
    there = np.isin(reservoir.refs, proposal.refs) & (reservoir.ids == cluster)
    part[there] = proposal.parts[at[there]]
    counts = np.bincount(part[there], minlength=2)
    _check(int(counts.min()))
    ids = np.where(part == 1, next_id, reservoir.ids)
    rows = state.space(reservoir.features)
    more = replace(reservoir, ids=ids).renamed({}, seed)
    old = np.flatnonzero(state.ids == cluster)
    heads = np.unique(state.heads[old])
    size = state.size_of(cluster)
    second = round(size * counts[1] / counts.sum())
    parts = [rows[part == number] for number in (0, 1) for _ in heads]
    new = np.repeat((cluster, next_id), len(heads))
    state = with_clusters(state.only(state.ids != cluster), more, new, parts, np.tile(heads, 2))
    state = state.grown(np.repeat((cluster, next_id), (size - second, second)))
    event = Event(kind="split", ids=(next_id,), others=(cluster,), images=second, sentence=proposal.sentence)
    moved = part == 1
    return Applied(state, pool, more, event, refs=reservoir.refs[moved], ids=np.full(moved.sum(), next_id))


def _check(images: int) -> None:
    if images < LEAST:
        raise InputError(
            f"only {counted(images, 'image')} of the proposal, or of one of its parts, are still kept; "
            "the next update makes new proposals"
        )


def with_clusters(
    state: State, reservoir: Reservoir, ids: Int64, parts: list[Float32], heads: Int64
) -> State:
    """Return a state with more centres, of no image as yet: ids and heads (C,), and each one's rows."""
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rows = np.concatenate(parts)
    sums = np.stack([part.sum(axis=0) for part in parts])
    far = 1 - (unit_rows(sums[numbers] - rows) * rows).sum(axis=1)  # each by the others
    stands = measure_valleys(state.space(reservoir.features), reservoir.ids, ids)
    centres = centres_of(rows, numbers, len(parts))
    towards = [
        margins(state, reservoir, centre) if head == -1 else no_margins(1)
        for centre, head in zip(centres, heads.tolist(), strict=True)
    ]
    return state.with_centres(
        State(
            state.mean,
            state.axes,
            ids,
            heads,
            centres,
            distances_of(far, numbers, len(parts)),
            np.zeros(len(parts), np.int64),
            np.array([tightness_of(part) for part in parts], np.float32),
            **stands,  # type: ignore[arg-type]
            **{name: np.concatenate([one[name] for one in towards]) for name in no_margins(0)},
        )
    )


def settled(state: State, reservoir: Reservoir, pool: Pool, waiting: Int64, seed: int) -> tuple[Int64, Int64]:
    """Return which images of the pool get a cluster by now, (m,) rising, and these, (m,).

    Parameters
    ----------
    state, reservoir, pool
        With the clusters that were born.
    waiting
        Images of open proposals of births: they stay unassigned.
    seed
        Of the lineage.
    """
    features, none = pool.features.astype(np.float32), np.empty(0, np.int64)
    if not len(pool):
        return none, none
    new_images = NewImages.of(state, reservoir, pool, features[:0], none, none, seed)
    ids = assign_images(state, features, pool.heads, pool.confidence, pool.refs, new_images).ids
    got = (ids >= 0) & ~np.isin(pool.refs, waiting)
    return pool.refs[got], ids[got]
