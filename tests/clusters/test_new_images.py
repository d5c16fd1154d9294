"""What an update brings: nothing new, one group, several, and images that are merely more than usual."""

import numpy as np
import pytest

from ccscale.clusters.applying import apply_proposals
from ccscale.clusters.assigning import NEW, NEW_GROUP, NO_NUMBERS, assign_images
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.new_images import NewImages, sample
from ccscale.clusters.proposal import births, merges, splits
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State
from ccscale.errors import InputError
from ccscale.evaluate.reject import TOO_FAR
from tests.clusters.blobs import WIDTH, blobs

Version = tuple[State, Reservoir, Pool]


@pytest.fixture(scope="module")
def first() -> Version:
    features, classes = blobs(range(4), 120, seed=0)
    ones = np.ones(len(classes), np.float32)
    state, reservoir, pool = make_initial_state(features, classes, ones, np.arange(len(classes)), k=4, seed=0)
    return state.grown(classes), reservoir, pool


def update(version: Version, classes: list[int], images: int, seed: int):
    """Return the day, its answers, the version after it, and the images' classes and refs."""
    state, reservoir, pool = version
    features, of = blobs(classes, images, seed)
    refs = 10_000 * (seed + 1) + np.arange(len(of))
    heads, ones = np.where(of < 4, of, of % 4), np.ones(len(of), np.float32)
    chosen = sample(refs, 0)
    day = NewImages.of(state, reservoir, pool, features[chosen], heads[chosen], refs[chosen], seed=0)
    answers = assign_images(state, features, heads, ones, refs, day)
    left = answers.ids < 0
    reservoir = reservoir.taken(features, answers.ids, refs, seed=0)
    pool, _ = pool.taken(features[left], refs[left], heads[left], ones[left], came=2, seed=0)
    return day, answers, (state.grown(answers.ids), reservoir, pool), of, refs


def test_a_day_without_anything_new_changes_nothing(first: Version):
    day, answers, (state, reservoir, pool), of, _ = update(first, [0, 1, 2, 3], 40, seed=1)
    assert not day.groups
    assert (answers.ids == of).mean() > 0.93
    assert [*births(day, state, reservoir, pool), *merges(state, reservoir), *splits(state, reservoir)] == []


def test_more_of_one_known_class_than_usual_is_nothing_new(first: Version):
    day, _, (state, reservoir, pool), _, _ = update(first, [2], 200, seed=1)
    assert not births(day, state, reservoir, pool)


def test_two_new_classes_are_born_and_later_images_of_them_assigned(first: Version):
    day, answers, (state, reservoir, pool), of, refs = update(first, [0, 1, 8, 9], 60, seed=1)
    proposals = births(day, state, reservoir, pool)
    assert [proposal.kind for proposal in proposals] == ["birth", "birth"]
    assert {NEW_GROUP} <= set(answers.reasons) <= {NEW, NEW_GROUP, None, TOO_FAR}
    seen = {}
    for new, proposal in enumerate(proposals, start=4):
        classes = of[np.isin(refs, proposal.refs)]
        seen[new] = np.bincount(classes).argmax()
        assert (classes == seen[new]).mean() > 0.9
        before = state.centres.copy()
        applied = apply_proposals(proposal, state, pool, reservoir, new, seed=0)
        state, pool, reservoir = applied.state, applied.pool, applied.reservoir
        assert state.centres[: len(before)].tobytes() == before.tobytes()
        assert set(applied.ids) == {new}
        assert state.size_of(new) == applied.event.images == len(proposal.refs)
        assert not np.isin(pool.refs, proposal.refs).any()
    assert sorted(seen.values()) == [8, 9]
    _, answers, _, of, _ = update((state, reservoir, pool), [0, 8, 9], 40, seed=2)
    called = {0: 0} | {of_class: new for new, of_class in seen.items()}
    assert (answers.ids == np.array([called[one] for one in of.tolist()])).mean() > 0.9
    with pytest.raises(InputError, match="are still kept"):
        apply_proposals(proposals[0], state, pool, reservoir, 9, seed=0)


def test_one_new_class_alone_is_a_group(first: Version):
    day, _, (state, reservoir, pool), _, _ = update(first, [9], 60, seed=1)
    assert len(births(day, state, reservoir, pool)) == 1


def test_a_day_is_the_same_in_whatever_order_its_images_come(first: Version):
    state, reservoir, pool = first
    features, _ = blobs([0, 9], 60, seed=1)
    refs = 500 + np.arange(len(features))
    order = np.random.default_rng(0).permutation(len(refs))
    one = NewImages.of(state, reservoir, pool, features, np.zeros(len(refs), np.int64), refs, seed=0)
    other = NewImages.of(
        state, reservoir, pool, features[order], np.zeros(len(refs), np.int64), refs[order], seed=0
    )
    assert len(one.groups) == len(other.groups) == 1
    assert one.groups[0].facts == other.groups[0].facts
    assert one.groups[0].centre.tobytes() == other.groups[0].centre.tobytes()


def test_no_image_is_a_neighbour_of_itself():
    rows, one = np.eye(3, dtype=np.float32), np.ones(1, np.int64)
    day = NewImages(rows, rows[:1], np.array([7]), one, one)
    assert day.count(np.repeat(rows[:1], 2, axis=0), np.array([7, 8])).tolist() == [0, 1]


def test_features_that_are_no_numbers_have_no_cluster_and_make_none(first: Version):
    state, reservoir, pool = first
    features, _ = blobs([0, 9], 60, seed=1)
    features[::10] = np.nan
    refs, heads, ones = 500 + np.arange(120), np.zeros(120, np.int64), np.ones(120, np.float32)
    day = NewImages.of(state, reservoir, pool, features, heads, refs, seed=0)
    answers = assign_images(state, features, heads, ones, refs, day)
    assert set(answers.ids[::10]) == {-1}
    assert set(answers.reasons[::10]) == {NO_NUMBERS}
    assert len(day.groups) == 1
    bad, _ = pool.taken(features[::10], refs[::10], heads[::10], ones[::10], came=2, seed=0)
    again = NewImages.of(state, reservoir, bad, features[1::10], heads[1::10], refs[1::10], seed=0)
    assert np.isfinite(again.recent).all()


@pytest.mark.parametrize("images", [0, 1, 30])
def test_images_without_features_and_copies_are_no_group(first: Version, images: int):
    state, reservoir, pool = first
    for features in (np.zeros((images, WIDTH), np.float32), np.full((images, WIDTH), 1e-30, np.float32)):
        refs = 500 + np.arange(images)
        day = NewImages.of(state, reservoir, pool, features, np.zeros(len(refs), np.int64), refs, seed=0)
        answers = assign_images(
            state, features, np.zeros(images, np.int64), np.ones(images, np.float32), refs, day
        )
        assert answers.ids.shape == (images,)
        assert np.isfinite(answers.distances).all()
