"""Sums over batches and ranks: the figures of all assignments at once."""

import numpy as np
import pytest
import torch

from ccscale.evaluate.information import SoftCounts
from ccscale.evaluate.metrics import scores, use
from ccscale.evaluate.tally import Tally

N, K = 300, 6


@pytest.fixture(scope="module")
def assignments():
    torch.manual_seed(0)
    p = torch.softmax(2 * torch.randn(N, K), dim=1)
    p[:, 4] = 0  # a cluster that stays empty
    rng = np.random.default_rng(0)
    confidence, clusters = p.max(dim=1)
    clusters = np.where(rng.random(N) < 0.1, -1, clusters.numpy())
    labels = np.where(rng.random(N) < 0.2, -1, rng.integers(0, 4, N))
    return clusters, confidence.numpy(), labels, p


def tally_of(assignments, rows) -> Tally:
    clusters, confidence, labels, p = assignments
    tally = Tally(K)
    for part in np.array_split(rows, 3):
        good = torch.from_numpy(clusters[part] >= 0)
        tally.add(clusters[part], confidence[part], labels[part], p[torch.from_numpy(part)][good])
    return tally


def test_of_two_ranks_as_of_all_at_once(assignments):
    clusters, confidence, labels, p = assignments
    joined = Tally.join([tally_of(assignments, np.arange(200)), tally_of(assignments, np.arange(200, N))])
    information = SoftCounts.of(p[torch.from_numpy(clusters >= 0)]).information
    known = (clusters >= 0) & (labels >= 0)
    expected = use(np.bincount(clusters[clusters >= 0], minlength=K)) | {
        "confidence": confidence[clusters >= 0].mean(dtype=np.float64),
        "information": information,
        "labelled": known.sum(),
    }
    expected |= scores(clusters[known], labels[known], K)
    found = joined.summary()
    assert list(found) == list(expected)
    assert found.pop("sizes") == expected.pop("sizes")
    assert found == pytest.approx(expected, abs=1e-12)
    assert joined.unassigned == (clusters < 0).sum()


def test_per_cluster(assignments):
    clusters, confidence, labels, _ = assignments
    columns = tally_of(assignments, np.arange(N)).per_cluster()
    assert {len(column) for column in columns.values()} == {K}
    for k in range(K):
        members = clusters == k
        known = labels[members & (labels >= 0)]
        assert columns["size"][k] == members.sum()
        if k == 4:
            assert [columns[name][k] for name in ("confidence", "majority", "purity", "entropy")] == [
                None
            ] * 4
            continue
        shares = np.bincount(known) / len(known)
        assert columns["confidence"][k] == pytest.approx(confidence[members].mean(), abs=1e-6)
        assert columns["majority"][k] == shares.argmax()
        assert columns["purity"][k] == pytest.approx(shares.max(), abs=1e-12)
        assert columns["entropy"][k] == pytest.approx(-sum(p * np.log(p) for p in shares if p > 0), abs=1e-12)
    matched = [label for label in columns["matched"] if label is not None]
    assert sorted(matched) == [0, 1, 2, 3]


def test_without_labels(assignments):
    clusters, confidence, _, p = assignments
    tally = tally_of((clusters, confidence, np.full(N, -1), p), np.arange(N))
    assert tally.summary()["labelled"] == 0
    assert set(tally.per_cluster()) == {"size", "confidence"}


def test_of_nothing():
    found = Tally.join([Tally(3), Tally(3)]).summary()
    assert (found["images"], found["confidence"], found["information"], found["labelled"]) == (0, 0, 0, 0)


def summary(clusters: np.ndarray, confidence: np.ndarray, labels: np.ndarray, k: int) -> dict:
    tally = Tally(k)
    tally.add(clusters, confidence, labels)
    return tally.summary()


class TestSummary:
    CLUSTERS = np.array([0, 0, 2, 2, 2, -1, 0, -1])
    CONFIDENCE = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.0, 0.4, 0.0], dtype=np.float32)
    LABELS = np.array([1, 1, 0, 0, -1, 1, -1, -1])

    def test_sizes_and_confidence_without_the_undecodable(self):
        found = summary(self.CLUSTERS, self.CONFIDENCE, self.LABELS, 4)
        assert (found["images"], found["clusters"], found["sizes"]) == (6, 4, [3, 0, 3, 0])
        assert (found["empty"], found["largest"]) == (2, 0.5)
        assert found["entropy"] == pytest.approx(np.log(2), abs=1e-12)
        assert found["effective_clusters"] == pytest.approx(2, abs=1e-12)
        assert found["confidence"] == pytest.approx(0.65, abs=1e-6)

    def test_scores_over_the_labelled_alone(self):
        found = summary(self.CLUSTERS, self.CONFIDENCE, self.LABELS, 4)
        assert found["labelled"] == 4  # the one that has a label and no cluster is not among them
        assert {name: found[name] for name in ("acc", "purity", "nmi", "ari", "f")} == pytest.approx(
            {"acc": 1, "purity": 1, "nmi": 1, "ari": 1, "f": 1}, abs=1e-12
        )

    def test_no_labels(self):
        found = summary(self.CLUSTERS, self.CONFIDENCE, np.full(8, -1), 4)
        assert found["labelled"] == 0
        assert found.keys().isdisjoint({"acc", "purity", "nmi", "ari", "f", "information"})

    def test_nothing_decodable(self):
        found = summary(np.full(3, -1), np.zeros(3, dtype=np.float32), np.array([0, 1, 2]), 2)
        assert (found["images"], found["sizes"], found["empty"], found["labelled"]) == (0, [0, 0], 2, 0)
        assert (found["largest"], found["entropy"], found["confidence"]) == (0, 0, 0)

    def test_all_in_one_cluster_has_no_entropy(self):
        found = summary(np.array([1] * 5), np.ones(5), np.full(5, -1), 3)
        assert str(found["entropy"]) == "0.0"
        assert (found["effective_clusters"], found["largest"], found["empty"]) == (1, 1, 2)
