"""The map: groups stay groups, also beside landmarks, the same each time; what cannot be laid out is no map."""

import numpy as np
import pytest

from ccscale.features.vectors import unit_rows
from ccscale.report.projection import project


def blobs(count, groups=4, width=20, seed=0):
    rng = np.random.default_rng(seed)
    of = rng.integers(0, groups, count)
    return 10 * rng.normal(size=(groups, width))[of] + rng.normal(size=(count, width)), of


def neighbours_agree(coordinates, of):
    distances = ((coordinates[:, None] - coordinates[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return (of[distances.argmin(axis=1)] == of).mean()


@pytest.mark.parametrize("landmarks", [1000, 60])
def test_groups_stay_together(landmarks):
    features, of = blobs(240)
    found = project(features.astype(np.float16), landmarks)
    assert found.coordinates.shape == (240, 2)
    assert found.coordinates.min() >= 0
    assert found.coordinates.max() <= 1
    assert np.ptp(found.coordinates, axis=0).max() == pytest.approx(1, abs=1e-6)
    assert neighbours_agree(found.coordinates, of) > 0.97
    assert ("60 of them drawn at random" in found.method) == (landmarks == 60)
    assert "240 images" in found.method


def test_the_same_each_time():
    features, _ = blobs(150)
    assert (project(features, 60).coordinates == project(features, 60).coordinates).all()


def test_length_does_not_matter():
    features, _ = blobs(50)
    assert unit_rows(features * np.arange(1, 51)[:, None]) == pytest.approx(unit_rows(features), abs=1e-6)
    assert (unit_rows(np.zeros((2, 3))) == 0).all()


def test_few_images_have_a_map():
    features, _ = blobs(5)
    assert project(features).coordinates.shape == (5, 2)


def test_a_single_feature_has_a_map():
    features = np.array([[1.0], [-1.0]] * 6)
    assert np.isfinite(project(features).coordinates).all()


@pytest.mark.parametrize(
    "features",
    [np.ones((4, 8)) * np.arange(4)[:, None], np.ones((50, 8)), np.zeros((50, 8)), np.full((9, 2), np.nan)],
    ids=["four images", "all equal", "all zero", "no numbers"],
)
def test_what_cannot_be_laid_out(features):
    assert project(features) is None
