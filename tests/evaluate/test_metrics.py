"""ACC, NMI, ARI and F against scikit-learn and brute force; entropy."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from harness.contingency import counted
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from ccscale.evaluate.metrics import (
    accuracy,
    adjusted_rand_index,
    entropy,
    normalized_mutual_information,
    pairwise_f,
    purity,
    scores,
)


def ints(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)


@st.composite
def clusterings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """(clusters, labels, k): k is unlike the number of classes at times, and clusters and classes may be empty."""
    k, classes = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    count = draw(st.integers(1, 40))
    numbers = st.lists(st.integers(0, 10**6), min_size=count, max_size=count)
    return ints(draw(numbers)) % k, ints(draw(numbers)) % classes, k


def best_matching(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Try every one-to-one matching of clusters and classes."""
    table = contingency_matrix(labels, clusters)
    table = table if table.shape[0] <= table.shape[1] else table.T
    rows = range(table.shape[0])
    return max(table[rows, chosen].sum() for chosen in permutations(range(table.shape[1]), len(rows))) / len(
        labels
    )


@given(clusterings())
@example((ints([0, 1, 2]), ints([0, 0, 0]), 3))
@example((ints([0, 0, 0]), ints([0, 1, 2]), 1))
@example((ints([0]), ints([0]), 4))
def test_against_scikit_learn(data):
    clusters, labels, k = data
    found = scores(clusters, labels, k)
    (_, in_cluster), (in_class, both) = pair_confusion_matrix(labels, clusters).tolist()
    pairs = 2 * both + in_cluster + in_class
    assert found["acc"] == pytest.approx(best_matching(clusters, labels), abs=1e-12)
    assert found["purity"] == pytest.approx(
        contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels)
    )
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-12)
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-12)
    assert found["f"] == pytest.approx(2 * both / pairs if pairs else 1.0, abs=1e-12)


@given(clusterings(), st.randoms(use_true_random=False))
def test_names_of_clusters_and_classes_do_not_matter(data, random):
    clusters, labels, k = data
    renamed, relabelled = ints(random.sample(range(k), k)), ints(random.sample(range(5), 5))
    assert scores(renamed[clusters], relabelled[labels], k) == pytest.approx(
        scores(clusters, labels, k), abs=1e-12
    )


@given(clusterings())
def test_perfect_clusters(data):
    _, labels, _ = data
    assert scores((labels + 1) % 5, labels, 5) == pytest.approx(
        {"acc": 1, "purity": 1, "nmi": 1, "ari": 1, "f": 1}, abs=1e-12
    )


def test_more_clusters_than_classes_cost_accuracy():
    """Two classes in four clusters: two of the clusters have no partner, and their images count as wrong."""
    clusters, labels = ints([0, 0, 0, 1, 2, 2, 3, 3]), ints([0, 0, 0, 0, 1, 1, 1, 1])
    assert scores(clusters, labels, 4)["acc"] == (3 + 2) / 8
    assert scores(labels, clusters, 2)["acc"] == (3 + 2) / 8


def test_one_cluster_for_all():
    found = scores(ints([0] * 6), ints([0, 0, 0, 1, 1, 2]), 10)
    assert found["acc"] == 0.5
    assert (found["nmi"], found["ari"]) == (0, 0)
    assert found["f"] == pytest.approx(2 * 4 / (15 + 4))


def test_a_label_may_be_any_number():
    """No array is made that has a place for every number up to it."""
    labels = ints([0, 999_999_999, 999_999_999, 7])
    assert scores(ints([0, 1, 1, 2]), labels, 3) == {"acc": 1, "purity": 1, "nmi": 1, "ari": 1, "f": 1}


@pytest.mark.parametrize("large", [10**8, 3 * 10**9])
def test_large_counts_do_not_overflow(large):
    """A table with hundreds of millions of images in a cell scores as the same table in small."""
    small = ints([[3, 1, 0], [0, 2, 1]])
    table, small = counted(small * large), counted(small)
    n = [[int(value) for value in row] for row in table.to_array()]
    groups = ([x for row in n for x in row], map(sum, n), map(sum, zip(*n, strict=True)))
    both, in_clusters, in_classes = (sum(x * (x - 1) for x in counts) for counts in groups)
    total = sum(map(sum, n)) * (sum(map(sum, n)) - 1)
    # Fractions of Python's integers, multiplied out so that only the last division rounds.
    ari = (2 * (both * total - in_clusters * in_classes)) / (
        total * (in_clusters + in_classes) - 2 * in_clusters * in_classes
    )
    assert accuracy(table) == purity(table) == 5 / 7
    assert normalized_mutual_information(table) == pytest.approx(
        normalized_mutual_information(small), abs=1e-12
    )
    assert pairwise_f(table) == pytest.approx(2 * both / (in_clusters + in_classes), abs=1e-12)
    assert adjusted_rand_index(table) == pytest.approx(ari, abs=1e-12)
    assert 0 < ari < 1


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any))
def test_entropy(counts):
    shares = np.array(counts) / sum(counts)
    expected = -sum(p * np.log(p) for p in shares if p > 0)
    assert entropy(shares) == pytest.approx(expected, abs=1e-12)
    assert str(entropy(shares))[0] != "-"
    assert entropy(np.full(7, 1 / 7)) == pytest.approx(np.log(7), abs=1e-12)
