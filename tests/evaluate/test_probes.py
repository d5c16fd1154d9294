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
    one = np.ones((1, 3)), np.array([0])
    assert knn_accuracy(*one) is None
    assert knn_accuracy(*one, *one) is None
    copy = np.ones((1, 3))
    assert knn_accuracy(*one, copy, one[1], images=np.array([4]), bank_images=np.array([4])) is None
    assert knn_accuracy(*one, copy, one[1], images=np.array([4]), bank_images=np.array([5])) == 1


def test_knn_in_a_bank_without_images():
    features, labels = blobs(4, 30, 1.0)
    assert knn_accuracy(features, labels, features[:0], labels[:0]) is None


@pytest.mark.parametrize("rows", [3, 1000])
def test_no_image_is_its_own_neighbour_in_a_bank(rows, monkeypatch):
    """Noise tells nothing, whether all of the bank is asked or some, in another order, beside others."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(500, 64)).astype(np.float32), rng.integers(0, 10, 500)
    monkeypatch.setattr(probes, "SCORES_BYTES", rows * 4 * 500)
    alone = knn_accuracy(features, labels)
    assert alone == pytest.approx(0.1, abs=0.05)
    assert knn_accuracy(features, labels, features, labels) == alone
    order = rng.permutation(500)
    bank = features[order].copy(), labels[order]
    found = knn_accuracy(features, labels, *bank, images=np.arange(500), bank_images=order)
    assert found == pytest.approx(alone, abs=1e-12)
    # 80 of the bank, and 20 that are not in it.
    asked, inside = rng.permutation(500)[:100], order[:400]
    right = 0
    for image in asked.tolist():
        others = inside[inside != image]
        one = knn_accuracy(features[[image]], labels[[image]], features[others].copy(), labels[others])
        assert one is not None
        right += one
    found = knn_accuracy(
        features[asked],
        labels[asked],
        features[inside].copy(),
        labels[inside],
        images=asked,
        bank_images=inside,
    )
    assert found == pytest.approx(right / 100, abs=1e-12)
