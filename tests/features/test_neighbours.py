"""Every row's nearest neighbours are kept in the store: the right ones, once, the same by any way there."""

import numpy as np
import pytest
import torch
from harness.ranks import run_ranks
from harness.stores import make_store

from ccscale import open_features
from ccscale.errors import InputError
from ccscale.features import ivf, neighbours
from ccscale.features import nearest as nearest_
from ccscale.features.buffers import Buffers
from ccscale.features.nearest import nearest
from ccscale.features.neighbour_file import FILE
from ccscale.features.neighbours import find_neighbours

N, D, K = 700, 12, 9


def rows_of(seed: int, count: int = N) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def by_brute_force(features: np.ndarray, k: int) -> np.ndarray:
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(neighbours, "QUERIES", 128)
    monkeypatch.setattr(nearest_, "BLOCK", 100)


def test_all_rows_against_brute_force(tmp_path, small_parts):
    features = rows_of(0)
    store = make_store(tmp_path / "store", features, shards=[300, 0, 400])
    facts = find_neighbours(store, K, show=False)
    assert (facts["k"], facts["exact"], facts["recall"]) == (K, True, 1.0)
    found, cosines = open_features(store.folder).neighbours_and_cosines(np.arange(N))
    assert np.array_equal(found, by_brute_force(features, K))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(cosines, np.einsum("nd,nkd->nk", unit, unit[found]), atol=1e-6)
    assert not list(store.folder.glob("neighbours.part*"))


def test_equals_are_taken_in_their_order():
    """Whether they lie in one tile or several, and where all are equal."""
    numbers = np.random.default_rng(1).integers(0, 3, 60)
    rows = torch.eye(3)[torch.from_numpy(numbers)]
    for tile in (5, 17, 60):
        bank = [(torch.arange(s, min(s + tile, 60)), rows[s : s + tile]) for s in range(0, 60, tile)]
        cosines, found = nearest(rows, torch.arange(60), bank, 6)
        for row in range(60):
            alike = [other for other in np.flatnonzero(numbers == numbers[row]) if other != row]
            assert found[row].tolist() == alike[:6]
    assert (cosines == 1).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rows_beyond_those_that_count_change_nothing(kind):
    """As where blocks are filled up to a size; and buffers are used for one search after another."""
    rows = torch.nn.functional.normalize(torch.from_numpy(rows_of(12, 90)), dim=1).to(kind)
    spans, own, buffers = [(0, 40), (40, 90)], torch.arange(30), Buffers(torch.device("cpu"))
    expected = nearest(rows[:30], own, [(torch.arange(*span), rows[slice(*span)]) for span in spans], K)

    def filled(part: torch.Tensor, size: int) -> torch.Tensor:
        return torch.cat([part, torch.full((size - len(part), D), torch.nan, dtype=kind)])

    for size in (64, 128, 64):
        bank = [(torch.arange(*span), filled(rows[slice(*span)], size)) for span in spans]
        cosines, found = nearest(filled(rows[:30], size), own, bank, K, buffers)
        assert torch.equal(found, expected[1])
        assert torch.equal(cosines, expected[0])


def test_a_buffer_is_of_the_same_memory_until_it_is_too_small():
    buffers = Buffers(torch.device("cpu"))
    first = buffers.take("one", 10, 8)
    assert buffers.take("one", 4, 20).data_ptr() == first.data_ptr()
    assert buffers.take("other", 10, 8).data_ptr() != first.data_ptr()
    assert buffers.take("one", 100, 8).shape == (100, 8)
    assert buffers.take("one", 3, dtype=torch.bool).dtype == torch.bool


def test_bad_rows_have_none_and_are_nobodys(tmp_path, small_parts):
    features = rows_of(2)
    store = make_store(tmp_path / "store", features, bad=[3, 400])
    find_neighbours(store, K, show=False)
    found = open_features(store.folder).neighbours(np.arange(N))
    assert (found[[3, 400]] == -1).all()
    good = np.delete(np.arange(N), [3, 400])
    assert np.array_equal(found[good], good[by_brute_force(features[good], K)])


def test_rows_of_a_split_are_counted_through_it_alone(tmp_path, small_parts):
    features = rows_of(3)
    folder = tmp_path / "store"
    store = make_store(folder, features, shards=[200, 100, 400])
    text = (folder / "features.json").read_text()
    parts = text.split('"split": "train"')
    text = '"split": "train"'.join(parts[:2]) + '"split": "val"' + '"split": "train"'.join(parts[2:])
    (folder / "features.json").write_text(
        text.replace('"splits": [\n   "train"', '"splits": [\n   "train", "val"')
    )
    find_neighbours(open_features(folder), K, show=False)
    train = open_features(folder, ["train"])
    assert train.rows == 600
    expected = by_brute_force(features, K)
    local = np.concatenate([np.arange(200), np.full(100, -1), np.arange(200, 600)])
    kept = np.delete(np.arange(N), np.arange(200, 300))
    assert np.array_equal(train.neighbours(np.arange(600)), local[expected[kept]])
    assert store.rows == N


def test_the_mean_of_all_views(tmp_path, small_parts):
    views = [rows_of(4), rows_of(5)]
    store = make_store(tmp_path / "store", views)
    find_neighbours(store, K, None, show=False)
    mean = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views)
    found = open_features(store.folder).neighbours(np.arange(N))
    assert (found == by_brute_force(mean, K)).mean() > 0.999


def test_done_once_and_again_where_more_are_asked_for(tmp_path, small_parts, monkeypatch):
    store = make_store(tmp_path / "store", rows_of(6))
    facts = find_neighbours(store, K, show=False)
    monkeypatch.setattr(neighbours._Search, "find", None)
    assert find_neighbours(store, K, show=False) == find_neighbours(store, 3, show=False) == facts
    with pytest.raises(TypeError):
        find_neighbours(store, K + 1, show=False)
    with pytest.raises(TypeError):
        find_neighbours(store, K, None, show=False)


def test_a_killed_search_goes_on(tmp_path, small_parts, monkeypatch):
    """What is there is not found again, and the bytes are those of one that was not killed."""
    features = rows_of(7)
    whole = make_store(tmp_path / "whole", features)
    find_neighbours(whole, K, show=False)
    store = make_store(tmp_path / "store", features)
    original, asked = neighbours._Search.find, []

    def until_the_third(self: neighbours._Search, part: int):
        asked.append(part)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(self, part)

    monkeypatch.setattr(neighbours._Search, "find", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        find_neighbours(store, K, show=False)
    assert open_features(store.folder).neighbour_section is None
    find_neighbours(store, K, show=False)
    assert asked == [0, 1, 2, 2, 3, 4, 5]
    assert (store.folder / FILE).read_bytes() == (whole.folder / FILE).read_bytes()


@pytest.fixture
def cells_of_few(small_parts, monkeypatch):
    """Rows are looked for in cells of about forty, a few at a time."""
    monkeypatch.setattr(ivf, "QUERIES", 16)
    monkeypatch.setattr(ivf, "CLOSELY", 5)
    monkeypatch.setattr(neighbours, "EXACT_WORK", 0)
    monkeypatch.setattr(ivf, "CELL", 40)
    monkeypatch.setattr(ivf, "BLOCK", 100)


def clustered(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((20, D))[rng.integers(0, 20, N)] + rng.standard_normal((N, D))).astype(
        np.float32
    )


def test_cells_find_as_many_as_is_told(tmp_path, cells_of_few):
    features = clustered(10)
    store = make_store(tmp_path / "store", features, bad=[9])
    facts = find_neighbours(store, K, show=False)
    assert (facts["exact"], facts["cells"]) == (False, N // 40)
    assert 1 < facts["probes"] < facts["cells"]
    found, cosines = open_features(store.folder).neighbours_and_cosines(np.arange(N))
    good = np.delete(np.arange(N), 9)
    exact = good[by_brute_force(features[good], K)]
    shares = [
        len(set(near) & set(true)) / K
        for near, true in zip(found[good].tolist(), exact.tolist(), strict=True)
    ]
    assert np.mean(shares) == pytest.approx(facts["recall"], abs=0.02)
    assert facts["recall"] >= ivf.RECALL
    assert not (found[good] == good[:, None]).any()
    assert (np.diff(cosines, axis=1) <= 0).all()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(cosines[:9], np.einsum("nd,nkd->nk", unit, unit[found])[:9], atol=2e-3)


def test_all_cells_find_all(tmp_path, cells_of_few, monkeypatch):
    monkeypatch.setattr(ivf, "RECALL", 1.1)
    features = clustered(11)
    store = make_store(tmp_path / "store", features)
    assert find_neighbours(store, K, show=False)["recall"] == 1
    found = open_features(store.folder).neighbours(np.arange(N))
    assert (found == by_brute_force(features, K)).mean() > 0.98  # but where float16 makes equals of them


def test_refusals(tmp_path):
    store = make_store(tmp_path / "store", rows_of(8, 20), bad=[1])
    with pytest.raises(InputError) as refused:
        find_neighbours(store, 19)
    what = "19 neighbours per image are too many for"
    assert str(refused.value) == f"{what} the 19 images of {store.folder}: use fewer"
    with pytest.raises(InputError, match="has no neighbours: compute them with `ccscale embed shards"):
        store.neighbours(np.arange(3))
    find_neighbours(store, 5, show=False)
    (store.folder / FILE).write_bytes(b"")
    with pytest.raises(InputError, match="does not match the store's listing"):
        open_features(store.folder).neighbours(np.arange(3))


def on_rank(rank: int, folders: list[str]) -> None:
    neighbours.QUERIES = 128
    nearest_.BLOCK = ivf.BLOCK = 100
    ivf.CELL = 40
    for folder, neighbours.EXACT_WORK in zip(folders, (2**40, 0), strict=True):
        find_neighbours(open_features(folder), K, show=False)


@pytest.mark.dist
def test_the_same_bytes_on_any_number_of_ranks(tmp_path, small_parts):
    folders = []
    for world in (1, 3):
        folders.append(
            [make_store(tmp_path / f"{world}-{way}", clustered(9)).folder for way in ("all", "cells")]
        )
    run_ranks(1, on_rank, list(map(str, folders[0])))
    run_ranks(3, on_rank, list(map(str, folders[1])))
    for alone, store in zip(*folders, strict=True):
        for name in (FILE, "features.json"):
            assert (store / name).read_bytes() == (alone / name).read_bytes()
