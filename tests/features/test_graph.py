"""The graph of neighbours against loops over its nodes; smoothing, spectral coordinates against dense matrices."""

from pathlib import Path

import numpy as np
import pytest
from harness.stores import make_store

from ccscale.features import graph as module
from ccscale.features.graph import near_positions, neighbour_graph, smooth, spectral_coordinates
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features

N, K = 40, 5


@pytest.fixture(scope="module")
def near() -> np.ndarray:
    """(n, k): neighbours of points on a line, by distance, some of them missing."""
    draw = np.random.default_rng(0)
    points = np.sort(draw.normal(size=N))
    order = np.abs(points[:, None] - points).argsort(axis=1, kind="stable")[:, 1 : K + 1]
    return np.where(draw.random((N, K)) < 0.1, -1, order)


def dense(near: np.ndarray) -> np.ndarray:
    a = np.zeros((N, N))
    for i in range(N):
        for j in range(N):
            one, other = j in near[i], i in near[j]
            a[i, j] = 1.1 if one and other else 0.1 if one or other else 0
    return a


def test_mutual_neighbours_weigh_most(near: np.ndarray) -> None:
    found = neighbour_graph(near).toarray()
    assert np.allclose(found, dense(near))


def test_smoothing_is_the_formula(near: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)
    x = np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    for _ in range(2):
        expected = expected + dense(near) @ expected
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(smooth(neighbour_graph(near), x), expected, atol=1e-5)


@pytest.mark.parametrize("sparse", [4, 1])
def test_coordinates_are_the_first_eigenvectors(
    near: np.ndarray, sparse: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARSE", sparse)
    monkeypatch.setattr(module, "TOLERANCE", 1e-7)
    a = dense(near)
    degrees = a.sum(axis=1)
    values, vectors = np.linalg.eigh(a / np.sqrt(degrees[:, None] * degrees))
    found = spectral_coordinates(neighbour_graph(near), 12)
    for number in range(12):
        if np.abs(np.delete(values, -1 - number) - values[-1 - number]).min() > 1e-3:
            assert abs(found[:, number] @ vectors[:, -1 - number]) == pytest.approx(1, abs=1e-3)


def test_neighbours_are_places_among_the_good_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    make_store(tmp_path / "store", draw.normal(size=(30, 4)).astype(np.float32), bad=[2, 11])
    find_neighbours(open_features(tmp_path / "store"), 6, device="cpu", show=False)
    store = open_features(tmp_path / "store")
    rows = np.flatnonzero(~store.bad)[:20]
    near = near_positions(store, rows)
    theirs = store.neighbours(rows)
    assert np.array_equal(np.isin(theirs, rows), near >= 0)
    assert np.array_equal(rows[near[near >= 0]], theirs[near >= 0])
