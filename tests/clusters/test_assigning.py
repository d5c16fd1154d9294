"""From a run's images to the first version, and images that come later."""

from dataclasses import replace

import numpy as np

from ccscale.clusters import reservoir
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.reservoir import MOST, Pool, Reservoir
from ccscale.clusters.state import State, nearest_centre
from ccscale.evaluate.reject import TOO_FAR
from tests.clusters.blobs import WIDTH, blobs


def test_images_like_the_runs_own_get_the_networks_cluster_and_others_none():
    features, classes = blobs(range(4), 100, seed=0)
    refs = np.arange(len(features))
    state, reservoir, pool = make_initial_state(
        features, classes, np.ones(len(refs), np.float32), refs, k=4, seed=0
    )
    assert (len(pool), len(reservoir), state.sizes.sum()) == (0, 400, 0)
    more, of = blobs(range(4), 100, seed=1)
    answers = assign_images(state, more, of, np.full(len(more), 0.7, np.float32))
    assert (answers.ids == of).mean() > 0.95
    assert set(answers.ids[answers.ids != of]) <= {-1}
    assert {reason for reason, one in zip(answers.reasons, answers.ids, strict=True) if one < 0} <= {TOO_FAR}
    far, _ = blobs([9], 50, seed=1)
    assert (assign_images(state, far, np.zeros(50, np.int64), np.ones(50, np.float32)).ids < 0).mean() > 0.5


def test_the_order_of_images_changes_nothing_that_is_remembered():
    features, classes = blobs(range(3), 400, seed=0)
    refs = np.arange(len(features)) * 2**32 + 7
    order = np.random.default_rng(0).permutation(len(refs))
    whole = Reservoir.empty(WIDTH).taken(features, classes, refs, seed=3)
    parts = Reservoir.empty(WIDTH)
    for rows in np.array_split(order, 5):
        parts = parts.taken(features[rows], classes[rows], refs[rows], seed=3)
    for name, array in whole.arrays().items():
        assert array.tobytes() == parts.arrays()[name].tobytes()
    assert np.bincount(whole.ids).tolist() == [MOST] * 3


def test_odd_images_and_clusters_of_none_are_no_obstacle():
    features, classes = blobs([0, 2], 8, seed=0)
    features[:4] = 0
    features[4:8] = features[4]
    state, _, _ = make_initial_state(features, classes, np.ones(16, np.float32), np.arange(16), k=4, seed=0)
    same = State.of(state.arrays())
    answers = assign_images(same, features, classes, np.ones(16, np.float32))
    assert np.isfinite(answers.ranks).all()
    assert assign_images(state, features[:0], classes[:0], np.ones(0, np.float32)).ids.shape == (0,)
    by_one = [
        assign_images(state, features[i : i + 1], classes[i : i + 1], np.ones(1, np.float32)).ids
        for i in range(16)
    ]
    assert np.concatenate(by_one).tolist() == answers.ids.tolist()
    assert state.grown(answers.ids).sizes.sum() == (answers.ids >= 0).sum()


def test_one_image_founds_a_version():
    features, classes = blobs([0], 1, seed=0)
    state, reservoir, _ = make_initial_state(
        features, classes, np.ones(1, np.float32), np.arange(1), k=2, seed=0
    )
    assert len(reservoir) == 1
    assert assign_images(state, features, classes, np.ones(1, np.float32)).ids.tolist() == [0]


def test_the_pool_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(reservoir, "POOL", 15)
    features, _ = blobs([0], 10, seed=0)
    pool, none = Pool.empty(WIDTH), np.zeros(10, np.int64)
    pool, dropped = pool.taken(features, np.arange(10), none, none.astype(np.float32), came=1, seed=0)
    assert len(pool) == 10
    assert not dropped
    assert pool.without(np.array([3])).refs.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    pool, dropped = pool.taken(features, np.arange(10, 20), none, none.astype(np.float32), came=2, seed=0)
    assert (len(pool), dropped) == (15, 5)
    assert pool.refs[5:].tolist() == list(range(10, 20))


def test_a_cluster_that_came_later_must_be_nearer_by_a_margin():
    features, classes = blobs([0, 1, 2], 8, seed=0)
    state, _, _ = make_initial_state(features, classes, np.ones(24, np.float32), np.arange(24), k=3, seed=0)
    centres = np.eye(3, state.centres.shape[1], dtype=np.float32)
    state = replace(state, centres=centres, heads=np.array([0, -1, 2]))
    angles = np.radians([44, 46, 48])  # between the first and the second
    rows = (np.cos(angles)[:, None] * centres[0] + np.sin(angles)[:, None] * centres[1]).astype(np.float32)
    assert nearest_centre(rows, state, np.zeros(3, np.int64))[0].tolist() == [0, 0, 1]
    assert nearest_centre(centres, state, np.array([2, 2, 0]))[0].tolist() == [2, 1, 0]
