"""A newcomer that looks like a cluster of before leaves that cluster its images."""

from types import SimpleNamespace
from unittest import mock

import numpy as np

from ccscale.clusters.applying import with_clusters
from ccscale.clusters.candidates import Candidate
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.margins import margins, nearer
from ccscale.clusters.proposal import births
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import MARGIN, State, nearest_centre
from tests.clusters.blobs import blobs

NEW = 4  # the id of what is born


def between(images: int, seed: int):
    """Return features of a class that lies between the first one and one that is not there."""
    first, _ = blobs([0], images, seed, spread=1.8)
    second, _ = blobs([9], images, seed + 100, spread=1.8)
    return np.float32(0.7) * first + np.float32(0.5) * second


def first_version() -> tuple[State, Reservoir, Pool]:
    features, classes = blobs(range(4), 200, seed=0, spread=1.8)
    refs = np.arange(len(classes))
    return make_initial_state(features, classes, np.ones(len(refs), np.float32), refs, k=4, seed=0)


def test_of_what_a_cluster_has_a_newcomer_takes_a_hundredth_at_most():
    state, reservoir, _ = first_version()
    rows = state.space(between(100, seed=1))
    after = with_clusters(state, reservoir, np.array([NEW]), [rows], np.array([-1]))
    assert after.rivals[-1, 0] == 0  # the nearest
    assert after.margins[-1, 0] > MARGIN
    for cluster in range(4):
        known = state.space(reservoir.features[reservoir.ids == cluster])
        which, _ = nearest_centre(known, after, np.full(len(known), cluster))
        assert (after.ids[which] == NEW).mean() <= 0.01
    far = state.space(blobs([12], 100, seed=1)[0])
    assert margins(state, reservoir, far.mean(axis=0))["margins"].max() == np.float32(MARGIN)


def test_a_birth_has_none_that_lie_as_the_images_of_their_cluster_do():
    state, reservoir, pool = first_version()
    new, old = between(100, seed=2), blobs([0], 100, seed=3, spread=1.8)[0]
    heads, ones = np.zeros(200, np.int64), np.ones(200, np.float32)
    pool, _ = pool.taken(np.concatenate([new, old]), 1_000 + np.arange(200), heads, ones, came=2, seed=0)
    centre = state.space(new).mean(axis=0)
    kept = nearer(state, reservoir, pool, centre / np.linalg.norm(centre))
    assert kept[:100].mean() > 0.6
    assert kept[100:].mean() < 0.05


def test_a_version_of_before_has_no_margins_of_its_own():
    state, _, _ = first_version()
    arrays = {name: array for name, array in state.arrays().items() if name not in ("rivals", "margins")}
    assert State.of(arrays).arrays().keys() == state.arrays().keys()
    assert (State.of(arrays).margins == np.float32(MARGIN)).all()


def test_a_group_of_such_images_alone_is_no_birth():
    """Of a new class, those images are proposed that do not lie as the images of the cluster that it resembles."""
    state, reservoir, pool = first_version()
    found = {}
    for name, features in (("old", blobs([0], 100, seed=3, spread=1.8)[0]), ("new", between(100, seed=2))):
        rows = state.space(features)
        centre = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
        group = Candidate(centre, rows, 0, is_stable=True, facts={"stability": 1.0, "separation": 1.0})
        day = SimpleNamespace(groups=(group,))
        of = np.arange(100), np.zeros(100, np.int64), np.ones(100, np.float32)
        own, _ = pool.taken(features, of[0], of[1], of[2], came=2, seed=0)
        inside = SimpleNamespace(groups=np.zeros(100, int))
        with mock.patch("ccscale.clusters.proposal.assign_images", return_value=inside):
            found[name] = births(day, state, reservoir, own)
    assert found["old"] == []
    (birth,) = found["new"]
    assert 60 <= len(birth.refs) == birth.facts["images"] < 100
