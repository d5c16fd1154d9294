"""What is too far from a run's images, and what is doubtful."""

import numpy as np
import pytest

from ccscale.evaluate import rejection as module
from ccscale.evaluate.rejection import RejectionModel


@pytest.fixture(scope="module")
def own():
    """Features of three directions of 16, and confidences."""
    draw = np.random.default_rng(0)
    features = 4 * np.eye(3, 16)[draw.integers(3, size=1_200)] + draw.normal(size=(1_200, 16))
    return features.astype(np.float32), draw.uniform(0.4, 1, 1_200).astype(np.float32)


def answered(model: RejectionModel, coverage: float, features, confidence) -> float:
    far, doubt = model.rank(features, confidence)
    return float(np.mean(np.maximum(far, doubt) <= model.limit(coverage)))


@pytest.mark.parametrize("coverage", [1.0, 0.95, 0.5, 0.02])
def test_that_share_of_images_like_the_own_is_answered(own, coverage):
    model = RejectionModel.fit(own[0][:1_000], own[1][:1_000])
    assert abs(answered(model, coverage, own[0][1_000:], own[1][1_000:]) - coverage) < 0.07


def test_far_is_told_from_doubtful(own):
    model = RejectionModel.fit(*own)
    limit = model.limit(0.95)
    strange = np.eye(16, dtype=np.float32)[8:]  # sure, but elsewhere
    far, doubt = model.rank(strange, np.ones(8, np.float32))
    assert (far > limit).all()
    assert not doubt.any()
    far, doubt = model.rank(own[0][:50], np.full(50, 0.2, np.float32))
    assert (far <= limit).mean() > 0.9
    assert (doubt > limit).all()


def test_length_of_features_says_nothing(own):
    model = RejectionModel.fit(*own)
    assert np.allclose(model.rank(own[0][:9], own[1][:9]), model.rank(7 * own[0][:9], own[1][:9]), atol=2e-3)


def test_equals_are_none_too_doubtful():
    same = np.ones(40, np.float32)
    model = RejectionModel.fit(np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), same)
    assert not model.rank(model.sample.astype(np.float32), same)[1].any()


def test_only_some_images_are_kept(own, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 300)
    monkeypatch.setattr(module, "OWN", 900)
    monkeypatch.setattr(module, "TILE", 64)
    chosen = RejectionModel.choose(1_200, 0)
    assert len(set(chosen.tolist())) == 900
    model = RejectionModel.fit(own[0][chosen], own[1][chosen])
    assert model.sample.shape == (300, 16)
    assert abs(answered(model, 0.9, *own) - 0.9) < 0.05


def test_two_images_are_enough():
    model = RejectionModel.fit(np.eye(2, dtype=np.float32), np.array([0.5, 1], np.float32))
    assert answered(model, 1.0, np.eye(2, dtype=np.float32), np.array([0.5, 1], np.float32)) == 1
