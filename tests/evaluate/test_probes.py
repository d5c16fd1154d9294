"""k-means and nearest neighbours on features, small and in chunks."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ccscale.evaluate import probes
from ccscale.evaluate.metrics import scores
from ccscale.evaluate.probes import TEMPERATURE, k_means, knn_accuracy


def blobs(seed: int, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    return (4 * np.eye(4)[labels] + spread * rng.normal(size=(count, 4))).astype(np.float32), labels


@pytest.mark.parametrize("work", [0, 10**9])
def test_k_means_finds_blobs_in_full_and_in_mini_batches(work, monkeypatch):
    monkeypatch.setattr(probes, "FULL_WORK", work)
    features, labels = blobs(0, 400, 0.3)
    found = k_means(features, 4)
    assert found.dtype == np.int64
    assert scores(found, labels, 4)["acc"] > 0.98
    assert (k_means(features, 4) == found).all()


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def weights(distances: np.ndarray) -> np.ndarray:
    return np.exp((1 - distances - 1) / TEMPERATURE)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_knn_against_scikit_learn(rows, monkeypatch):
    bank, bank_labels = blobs(1, 150, 2.0)
    features, labels = blobs(2, 90, 2.0)
    monkeypatch.setattr(probes, "SCORES_BYTES", rows * 4 * len(bank))
    other = KNeighborsClassifier(20, metric="cosine", weights=weights).fit(unit(bank), bank_labels)
    expected = other.score(unit(features), labels)
    assert 0.5 < expected < 0.95
    assert knn_accuracy(features, labels, bank, bank_labels) == pytest.approx(expected, abs=1e-12)


def test_knn_leaves_an_image_out_of_its_own_neighbours(monkeypatch):
    monkeypatch.setattr(probes, "SCORES_BYTES", 4 * 120 * 11)
    features, labels = blobs(3, 120, 2.0)
    right = 0
    for i in range(120):
        others = np.arange(120) != i
        model = KNeighborsClassifier(20, metric="cosine", weights=weights)
        model.fit(unit(features[others]), labels[others])
        right += model.predict(unit(features[i : i + 1]))[0] == labels[i]
    assert knn_accuracy(features, labels) == right / 120


def test_knn_of_one_image_has_no_neighbours():
    assert knn_accuracy(np.ones((1, 3)), np.array([0])) == 0
