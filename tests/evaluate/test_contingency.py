"""Counting in chunks, as an array and by cells: the same table, however it is cut and joined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccscale.evaluate import contingency
from ccscale.evaluate.contingency import Contingency

SPARSE, DENSE = 0, 10**6


@pytest.fixture(autouse=True, scope="module")
def often_merged():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contingency, "PENDING", 3)
        yield


def images(seed: int, count: int, k: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, k, count), rng.integers(0, classes, count)


def counted(clusters: np.ndarray, labels: np.ndarray, k: int, limit: int, chunks: int) -> Contingency:
    table = Contingency(k, limit)
    for part in np.array_split(np.arange(len(clusters)), chunks):
        table.add(clusters[part], labels[part])
    return table


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
@pytest.mark.parametrize("limit", [SPARSE, 12, DENSE])
def test_any_chunks_give_the_table(limit, seed, count, k, classes, chunks):
    clusters, labels = images(seed, count, k, classes)
    expected = np.zeros((k, int(labels.max(initial=-1)) + 1), dtype=int)
    np.add.at(expected, (clusters, labels), 1)
    table = counted(clusters, labels, k, limit, chunks)
    assert table.to_array().tolist() == expected.tolist()
    cells = table.cells()
    assert cells.counts.min(initial=1) > 0
    assert list(zip(cells.clusters, cells.classes, strict=True)) == sorted(
        zip(cells.clusters, cells.classes, strict=True)
    )


@pytest.mark.parametrize("limits", [(SPARSE, SPARSE), (SPARSE, DENSE), (DENSE, SPARSE), (DENSE, DENSE)])
def test_two_tables_add_up(limits):
    clusters, labels = images(1, 200, 6, 5)
    first = counted(clusters[:120], labels[:120], 6, limits[0], 4)
    first.add_cells(counted(clusters[120:], labels[120:], 6, limits[1], 3).cells())
    assert first.to_array().tolist() == counted(clusters, labels, 6, DENSE, 1).to_array().tolist()


@pytest.mark.parametrize("limit", [SPARSE, DENSE])
def test_joined_clusters(limit):
    clusters, labels = images(2, 100, 4, 3)
    groups = np.array([1, 0, -1, 1])
    kept = groups[clusters] >= 0
    expected = counted(groups[clusters[kept]], labels[kept], 2, DENSE, 1)
    joined = counted(clusters, labels, 4, limit, 5).grouped(groups)
    assert joined.to_array().tolist() == expected.to_array().tolist()


def test_a_table_that_grows_too_large_goes_on_by_cells():
    table = Contingency(3, dense_cells=30)
    table.add(np.array([0, 2]), np.array([1, 9]))
    assert table._dense is not None
    table.add(np.array([0]), np.array([10]))
    assert table._dense is None
    cells = table.cells()
    assert [column.tolist() for column in cells] == [[0, 0, 2], [1, 10, 9], [1, 1, 1]]


def test_sparse_memory_is_that_of_the_cells():
    table = Contingency(10**6, dense_cells=1000)
    for _ in range(50):
        table.add(np.full(100, 999_999), np.full(100, 2**31 - 1))
    table.cells()
    assert table._codes.nbytes == table._counts.nbytes == 8
    assert table.cells().counts.tolist() == [5000]
