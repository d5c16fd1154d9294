"""Drift: none where images are like those of before, an alarm where they, their shares or the network changed."""

import numpy as np
import pytest

from ccscale.clusters.assigning import assign_images
from ccscale.clusters.drift import ALARM, CHANCE, FEWEST, Reference
from ccscale.clusters.initial_state import make_initial_state
from tests.clusters.blobs import WIDTH, blobs


@pytest.fixture(scope="module")
def usual() -> Reference:
    features, classes = blobs(range(4), 120, seed=0)
    sure = np.random.default_rng(0).uniform(0.6, 1, len(classes)).astype(np.float32)
    state, reservoir, _ = make_initial_state(features, classes, sure, np.arange(len(classes)), k=4, seed=0)
    return Reference.of(state.grown(classes), reservoir, classes[reservoir.refs], sure[reservoir.refs])


def measured(usual: Reference, features, classes, seed: int, least: float = 0.6):
    confidence = np.random.default_rng([seed, 5]).uniform(least, 1, len(classes)).astype(np.float32)
    answers = assign_images(usual.state, features, classes, confidence)
    return usual.measure(features, classes, confidence, answers, seed)


def test_images_like_those_of_before_raise_no_alarm(usual: Reference):
    found = [measured(usual, *blobs(range(4), 50, seed), seed) for seed in range(1, 21)]
    assert sum(one["alarm"] is not None for one in found) <= 1
    assert found[0]["images"] == 200
    assert found[0] == measured(usual, *blobs(range(4), 50, 1), 1)


@pytest.mark.parametrize(("share", "by"), [(1, 3), (5, 4)], ids=["all", "a fifth"])
def test_features_that_have_moved_raise_one(usual: Reference, share: int, by: float):
    features, classes = blobs(range(4), 50, seed=1)
    features[::share] += by * np.random.default_rng(8).standard_normal(WIDTH).astype(np.float32)
    found = measured(usual, features, classes, 1)
    assert found["features"] > ALARM["features"]
    assert "features have moved" in found["alarm"]


def test_a_network_that_is_less_sure_raises_one(usual: Reference):
    found = measured(usual, *blobs(range(4), 50, seed=1), 1, least=0.2)
    assert found["alarm"].startswith("the network's confidence has changed")


def test_other_shares_raise_one_and_move_no_features(usual: Reference):
    found = measured(usual, *blobs([0, 0, 0, 1], 50, seed=1), 1)
    assert found["features"] < ALARM["features"]
    assert found["alarm"].startswith("the clusters' shares have changed")


def test_a_large_shift_of_few_images_raises_none(usual: Reference):
    found = measured(usual, *blobs([0, 0, 0, 0, 1, 2, 3], 3, seed=1), 1)
    assert found["sizes"] >= ALARM["sizes"]
    assert found["alarm"] is None


def test_a_small_shift_of_many_images_raises_none(usual: Reference):
    found = measured(usual, *blobs([0, 0, 1, 2, 3], 80, seed=1), 1)
    assert found["sizes_chance"] <= CHANCE
    assert found["alarm"] is None


def test_images_that_fit_nowhere_raise_one(usual: Reference):
    features, classes = blobs([0, 1, 2, 3, 9], 40, seed=1)
    found = measured(usual, features, np.where(classes == 9, 0, classes), 1)
    assert found["unassigned"] > 0.1
    assert "fit no cluster" in found["alarm"]


@pytest.mark.parametrize("images", [0, 1, FEWEST])
def test_few_images_are_told_and_none_assigned_are_no_obstacle(usual: Reference, images: int):
    features, classes = np.zeros((images, WIDTH), np.float32), np.zeros(images, np.int64)
    found = measured(usual, features, classes, 1)
    assert found["images"] == images
    assert (found["alarm"] is not None) == (images >= FEWEST)
