"""Counting in chunks: the same table, however it is cut and joined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccscale.evaluate import contingency
from ccscale.evaluate.contingency import Contingency


@pytest.fixture(autouse=True, scope="module", params=[0, 12, 2**24])
def often_merged(request):
    """Merge often; count no table in place, only small ones, or all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contingency, "PENDING", 3)
        patch.setattr(contingency, "DENSE_CELLS", request.param)
        yield


def images(seed: int, count: int, k: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, k, count), rng.integers(0, classes, count)


def counted(clusters: np.ndarray, labels: np.ndarray, k: int, chunks: int) -> Contingency:
    table = Contingency(k)
    for part in np.array_split(np.arange(len(clusters)), chunks):
        table.add(clusters[part], labels[part])
    return table


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_any_chunks_give_the_table(seed, count, k, classes, chunks):
    clusters, labels = images(seed, count, k, classes)
    expected = np.zeros((k, int(labels.max(initial=-1)) + 1), dtype=int)
    np.add.at(expected, (clusters, labels), 1)
    table = counted(clusters, labels, k, chunks)
    assert table.to_array().tolist() == expected.tolist()
    cells = table.cells()
    assert cells.counts.min(initial=1) > 0
    assert list(zip(cells.clusters, cells.classes, strict=True)) == sorted(
        zip(cells.clusters, cells.classes, strict=True)
    )


def test_two_tables_add_up():
    clusters, labels = images(1, 200, 6, 5)
    first = counted(clusters[:120], labels[:120], 6, 4)
    first.add_cells(counted(clusters[120:], labels[120:], 6, 3).cells())
    assert first.to_array().tolist() == Contingency.of(clusters, labels, 6).to_array().tolist()


def test_joined_clusters():
    clusters, labels = images(2, 100, 4, 3)
    groups = np.array([1, 0, -1, 1])
    kept = groups[clusters] >= 0
    joined = counted(clusters, labels, 4, 5).grouped(groups)
    assert (
        joined.to_array().tolist()
        == Contingency.of(groups[clusters[kept]], labels[kept], 2).to_array().tolist()
    )


def test_memory_is_that_of_the_cells():
    table = Contingency(10**6)
    for _ in range(50):
        table.add(np.full(100, 999_999), np.full(100, 2**31 - 1))
    assert (table._waiting, len(table._cells.counts)) == (0, 1)
    assert [column.tolist() for column in table.cells()] == [[999_999], [2**31 - 1], [5000]]


def test_largest_counts_of_each_cluster():
    clusters, labels = images(0, 400, 5, 9)
    clusters[clusters == 3] = 4  # a cluster without any
    found = Contingency.of(clusters, labels, 5).largest(4)
    for cluster in range(5):
        counts = np.bincount(labels[clusters == cluster], minlength=9)
        expected = sorted(
            ((c, n) for c, n in enumerate(counts.tolist()) if n), key=lambda pair: (-pair[1], pair[0])
        )
        assert found[cluster] == expected[:4]
    assert found[3] == []
