"""Sums over batches and ranks: the figures of all assignments at once."""

import numpy as np
import pytest
import torch

from ccscale.evaluate.information import SoftCounts
from ccscale.evaluate.metrics import summarize
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
    expected = summarize(clusters, confidence.astype(np.float64), labels, K, information)
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
