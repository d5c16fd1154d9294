"""The map from confidence to how often images are right."""

import numpy as np
import pytest

from ccscale.evaluate.calibration import PAIRS, Calibration
from ccscale.evaluate.reliability_scores import (
    accuracy_at_coverage,
    calibration_error,
    reliability_bins,
    reliability_scores,
)


def looks(confidence: np.ndarray, agreeing: np.ndarray) -> np.ndarray:
    """Return soft assignments to 3 clusters of two looks, both of that confidence, in one cluster or not."""
    pairs = np.zeros((2, len(confidence), 3), np.float32)
    pairs[0, :, 0] = confidence
    pairs[1, np.arange(len(confidence)), np.where(agreeing, 0, 1)] = confidence
    pairs += ((1 - confidence) / 3)[None, :, None].astype(np.float32) * (pairs == 0)
    return pairs


@pytest.fixture
def sure():
    """Confidences that say too much: right in their square's share of cases."""
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.5, 1, 20_000)
    return confidence, draw.random(20_000) < confidence**2


def test_pairs_alone_tell_how_often_looks_agree(sure):
    confidence, agreeing = sure
    found = Calibration.fit(looks(confidence, agreeing))
    assert (found.pairs, found.labels) == (20_000, 0)
    assert np.abs(found(np.array([0.6, 0.75, 0.9])) - [0.36, 0.5625, 0.81]).max() < 0.05
    assert (np.diff(found(np.linspace(0, 1, 200))) >= 0).all()
    assert calibration_error(confidence, agreeing) > 0.15
    assert calibration_error(found(confidence), agreeing) < 0.02


def test_labels_overrule_pairs_the_more_there_are(sure):
    confidence, right = sure
    pairs = looks(confidence[:400], np.ones(400, bool))  # they agree always

    def error(labels: int) -> float:
        found = Calibration.fit(pairs, confidence[:labels], right[:labels])
        return calibration_error(found(confidence), right)

    errors = [error(labels) for labels in (0, int(PAIRS), 300, 3_000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 < 0.3 < errors[0]


def test_nothing_to_go_by_changes_nothing():
    found = Calibration.fit(np.empty((2, 0, 4), np.float32))
    assert found(np.array([0.25, 0.5], np.float32)).tolist() == [0.25, 0.5]


def test_one_label_is_enough_to_fit():
    found = Calibration.fit(np.empty((2, 0, 4), np.float32), np.array([0.5]), np.array([True]))
    assert found(np.array([0.1, 0.9])).tolist() == [1, 1]


def test_risk_by_hand():
    confidence, right = np.array([1.0, 0.9, 0.6, 0.3]), np.array([True, True, False, True])
    assert accuracy_at_coverage(confidence, right, (1.0, 0.75, 0.5, 0.01)) == [0.75, 2 / 3, 1, 1]
    bins = reliability_bins(confidence, right, 2)  # up to .5, and above
    assert bins["share"] == [0.25, 0.75]
    assert bins["right"] == [1, 2 / 3]
    assert calibration_error(confidence, right, 2) == pytest.approx(0.25 * 0.7 + 0.75 * (2.5 / 3 - 2 / 3))
    assert "ece_calibrated" not in reliability_scores(confidence, None, right)
    assert reliability_scores(confidence, confidence, right)["accuracy"][0] == 0.75
