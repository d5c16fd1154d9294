"""One-to-one and many-to-one matching: against brute force and against each other, dense and by cells."""

from itertools import permutations

import numpy as np
import pytest
from harness.contingency import counted
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccscale.evaluate.matching import many_to_one, one_to_one, right

TABLES = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 9) | st.just(0))
)


def best(table: np.ndarray) -> int:
    wide = table if table.shape[0] <= table.shape[1] else table.T
    rows = range(wide.shape[0])
    return max(wide[rows, chosen].sum() for chosen in permutations(range(wide.shape[1]), len(rows)))


@given(TABLES)
@pytest.mark.parametrize("dense_cells", [0, 10**6])
def test_one_to_one_is_the_best_there_is(dense_cells, array):
    table = counted(array)
    matched = one_to_one(table, dense_cells)
    partners = matched[matched >= 0]
    assert len(set(partners.tolist())) == len(partners)
    assert all(array[cluster, label] > 0 for cluster, label in enumerate(matched) if label >= 0)
    assert right(table, matched) == best(array)


def test_by_cells_as_by_an_array_in_a_larger_table():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 50, (60, 45)) * (rng.random((60, 45)) < 0.2)
    table = counted(array)
    assert right(table, one_to_one(table, 0)) == right(table, one_to_one(table, 10**6)) > 0


@given(TABLES)
def test_many_to_one_is_the_commonest_class(array):
    expected = [int(row.argmax()) if row.any() else -1 for row in array]
    assert many_to_one(counted(array)).tolist() == expected


def test_two_clusters_may_stand_for_a_class_in_one_of_them_only():
    table = counted(np.array([[5, 1], [4, 0], [0, 0]]))
    assert right(table, one_to_one(table)) == 5
    assert many_to_one(table).tolist() == [0, 0, -1]
    assert right(table, many_to_one(table)) == 9
