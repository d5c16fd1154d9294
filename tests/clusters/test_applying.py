"""Merges and splits: proposed where clusters have changed, and what becomes of ids, sizes and images."""

from dataclasses import replace

import numpy as np
import pytest

from ccscale.clusters.applying import apply_proposals
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.memory import Memory
from ccscale.clusters.proposal import Proposal, merges, splits
from ccscale.clusters.proposal_search import is_same
from ccscale.clusters.reassigning import IdChanges
from ccscale.clusters.separation import halves, measure_separation, valley_p_value
from ccscale.clusters.version import Proposed
from tests.clusters.blobs import blobs


def first(heads, features):
    ones = np.ones(len(heads), np.float32)
    state, reservoir, pool = make_initial_state(
        features, heads, ones, np.arange(len(heads)), k=int(heads.max()) + 1, seed=0
    )
    return state.grown(heads), reservoir, pool


def test_samples_of_one_heap_are_not_apart_and_heaps_are():
    one, _ = blobs([3], 300, seed=0)
    two, _ = blobs([4], 100, seed=0)
    same = measure_separation(one[:150], one[150:])
    assert 0.4 < same.separation < 0.6
    assert same.no_valley > 0.1
    other = measure_separation(one, two)
    assert other.separation > 0.95
    assert max(other.chance, other.no_valley) < 1e-3
    first_half, second_half = halves(one)
    assert valley_p_value(one[first_half], one[second_half]) > 0.1


def test_a_cluster_that_has_come_apart_is_split():
    features, classes = blobs([0, 1, 2], 120, seed=0)
    state, reservoir, pool = first(classes, features)
    assert not splits(state, reservoir)
    more, _ = blobs([5], 120, seed=1)  # which the network takes for its cluster 1
    refs, ids = 1000 + np.arange(120), np.full(120, 1)
    reservoir = reservoir.taken(more, ids, refs, seed=0)
    state = state.grown(np.tile(ids, 3))  # of which a third is remembered
    (proposal,) = splits(state, reservoir)
    assert proposal.ids == (1,)
    assert not splits(replace(state, whole=np.zeros(3)), reservoir)  # where it never was one
    applied = apply_proposals(proposal, state, pool, reservoir, 3, seed=0)
    assert applied.event.kind == "split"
    assert (applied.event.ids, applied.event.others) == ((3,), (1,))
    assert sorted(applied.state.clusters) == [0, 1, 2, 3]
    assert applied.state.size_of(1) + applied.state.size_of(3) == state.size_of(1) == 480
    assert 220 < applied.state.size_of(3) == applied.event.images < 260
    assert applied.state.size_of(0) == state.size_of(0)
    assert len(set((applied.refs >= 1000).tolist())) == 1
    answers = assign_images(applied.state, more, ids, np.ones(120, np.float32))
    assert len(set(answers.ids[answers.ids >= 0])) == 1
    assert not splits(applied.state, applied.reservoir)


def test_an_image_that_changes_twice_goes_from_its_first_id_to_its_last():
    first = IdChanges(np.array([1]), np.array([0]), np.array([5]))
    both = first.then(IdChanges(np.array([1, 2]), np.array([5, 3]), np.array([6, 7])))
    assert [one.tolist() for one in (both.refs, both.former, both.ids)] == [[1, 2], [0, 3], [6, 7]]


def test_images_that_move_are_remembered_where_they_are():
    features, classes = blobs([0, 1], 10, seed=0)
    state, reservoir, pool = first(classes, features)
    none = np.zeros(2, np.int64)
    pool, _ = pool.taken(features[:2], np.array([100, 101]), none, none.astype(np.float32), came=2, seed=0)
    memory = Memory(state, reservoir, pool).moved(
        np.array([100, 3, 4]), np.array([-1, 0, 0]), np.array([1, -1, 1])
    )
    assert memory.pool.refs.tolist() == [101]
    assert (memory.state.size_of(0), memory.state.size_of(1)) == (8, 12)
    ids = dict(zip(memory.reservoir.refs.tolist(), memory.reservoir.ids.tolist(), strict=True))
    assert 3 not in ids
    assert ids[4] == 1


def test_births_of_the_same_images_for_the_most_part_are_the_same():
    birth, before = Proposal("birth", (), np.arange(10), {}, ""), Proposed(id="p1", kind="birth", since=1)
    assert is_same(birth, before, np.arange(5, 13))
    assert not is_same(birth, before, np.arange(6, 14))


def test_clusters_that_have_grown_together_are_merged():
    features, classes = blobs([0, 1, 2], 100, seed=0)
    state, reservoir, pool = first(classes, features)
    assert not merges(state, reservoir)
    ends, _ = blobs([0, 1], 1, seed=0, spread=0)
    random = np.random.default_rng(0)
    between = ends[0] + random.uniform(0.3, 0.7, (400, 1)) * (ends[1] - ends[0])
    between = (between + 3 * random.standard_normal(between.shape)).astype(np.float32)
    ids = ((between - ends.mean(axis=0)) @ (ends[1] - ends[0]) > 0).astype(np.int64)
    reservoir = reservoir.taken(between, ids, 1000 + np.arange(400), seed=0)
    state = state.grown(ids)
    (proposal,) = merges(state, reservoir)
    assert proposal.ids == (0, 1)
    assert not merges(replace(state, parted=np.ones_like(state.parted)), reservoir)  # never apart
    applied = apply_proposals(proposal, state, pool, reservoir, 3, seed=0)
    ((gone, kept),) = applied.renamed.items()
    assert {gone, kept} == {0, 1}
    assert sorted(applied.state.clusters) == [kept, 2]
    assert set(applied.state.whole[applied.state.ids == kept]) == {0}
    assert applied.state.size_of(kept) == state.size_of(0) + state.size_of(1)
    answers = assign_images(applied.state, features, classes, np.ones(300, np.float32))
    assert set(answers.ids) <= {-1, kept, 2}
    assert not merges(applied.state, applied.reservoir)
    assert not splits(applied.state, applied.reservoir)
    with pytest.raises(ValueError, match="no longer exists"):
        apply_proposals(proposal, applied.state, applied.pool, applied.reservoir, 3, seed=0)
