"""Moves living clusters to another network: its clusters get the ids that they match best. Pure functions.

On the reservoir, clusters and ids are matched one-to-one, so that as many images as possible keep theirs (Kuhn
1955). A cluster without an id that contains images of the pool is born; an id without a cluster continues with
its centre only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.clusters.applying import with_clusters
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.groups import LEAST
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.memory import Memory
from ccscale.clusters.reassigning import IdChanges
from ccscale.clusters.rehearsal import Rehearsal
from ccscale.clusters.reservoir import Remembered
from ccscale.clusters.state import State
from ccscale.clusters.tables import UNASSIGNED
from ccscale.clusters.version import Event
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.matching import one_to_one
from ccscale.wording import counted

Answering = Callable[[Float32], tuple[Int64, Float32]]
"""From features (n, D) to the network's cluster of each and its confidence, (n,) both."""


@dataclass(frozen=True)
class Migrated:
    """Living clusters, moved to another network.

    Attributes
    ----------
    memory
        State, reservoir and pool.
    events
        Births, and ids that no image has.
    changes
        Images of the pool that are born into a cluster.
    moved
        The fraction of the reservoir's images to which the new network gives another id, or none.
    by_centre
        The ids that no cluster of the network stands for.
    next_id
        The least id that was never used.
    """

    memory: Memory
    events: tuple[Event, ...]
    changes: IdChanges
    moved: float
    by_centre: tuple[int, ...]
    next_id: int


def migrate(memory: Memory, rows: Rehearsal, answer: Answering, next_id: int, seed: int) -> Migrated:
    """Found the clusters again with another network, and keep their ids.

    Parameters
    ----------
    memory
        Of the version before.
    rows
        What the network was trained on.
    answer
        The network's, of `rows.k` clusters.
    next_id
        The least id that was never used.
    seed
        Of the lineage.
    """
    own, pool = memory.reservoir, memory.pool
    features = rows.features[rows.known]
    state, _, _ = make_initial_state(features, *answer(features), rows.refs[rows.known], k=rows.k, seed=seed)
    old, new = _float(own), _float(pool)
    heads, confidence = answer(old)
    matched = one_to_one(Contingency.of(heads, np.searchsorted(rows.ids, own.ids), rows.k))
    ids = np.where(matched >= 0, rows.ids[matched], -1)

    pool_heads, pool_confidence = answer(new)
    # As yet they are the network's clusters.
    pool_ids = assign_images(state, new, pool_heads, pool_confidence).ids
    events, born = list[Event](), np.full(len(pool), UNASSIGNED)
    for head in np.flatnonzero(ids < 0).tolist():
        members = pool_ids == head
        if members.sum() >= LEAST:
            ids[head], born[members] = next_id, next_id
            images = counted(int(members.sum()), "image")
            sentence = f"{images} without a cluster are one of the retrained network"
            events.append(Event(kind="born", ids=(next_id,), images=int(members.sum()), sentence=sentence))
            next_id += 1
    if len(gone := np.setdiff1d(memory.state.clusters, rows.ids)):
        events.append(
            Event(kind="retired", ids=tuple(gone.tolist()), sentence="no image of it is remembered")
        )

    refs, members = pool.refs[born >= 0], born >= 0
    state = _named(state, ids)
    reservoir = own.taken(new[members], born[members], refs, seed)
    left = np.setdiff1d(rows.ids, ids)
    if len(left):
        parts = [state.space(old[own.ids == one]) for one in left.tolist()]
        state = with_clusters(state, reservoir, left, parts, np.full(len(left), -1))
    moved = assign_images(state, old, heads, confidence).ids != own.ids
    after = Memory(
        state, reservoir, replace(pool, heads=pool_heads, confidence=pool_confidence).without(refs)
    )
    after = after.sized({one: memory.state.size_of(one) for one in rows.ids.tolist()})
    return Migrated(
        replace(after, state=after.state.grown(born)),
        tuple(events),
        IdChanges(refs, np.full(len(refs), UNASSIGNED), born[members]),
        float(moved.mean()) if len(moved) else 0.0,
        tuple(left.tolist()),
        next_id,
    )


def _named(state: State, ids: Int64) -> State:
    """Return a state of the network's clusters with ids (K,); those without one are left out."""
    kept = ids >= 0
    near = np.where(state.near >= 0, ids[state.near], -1)
    return replace(replace(state, near=near).only(kept), ids=ids[kept], heads=np.flatnonzero(kept))


def _float(remembered: Remembered) -> Float32:
    return remembered.features.astype(np.float32)
