"""Pairs of a store's rows: which views and neighbours, and that they depend on seed, epoch and sample alone."""

import numpy as np
import pytest
from harness.stores import make_store

from ccscale.config import Pairs
from ccscale.features.neighbours import find_neighbours
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features, open_features

N, D, K = 60, 8, 6


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Features:
    """Three random views beside the image as it is; rows 4 and 9 have no features."""
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(N, D)).astype(np.float32) for _ in range(4)]
    made = make_store(tmp_path_factory.mktemp("store") / "store", views, bad=[4, 9])
    find_neighbours(made, K, device="cpu", show=False)
    return open_features(made.folder)


def draw(store: Features, raw: int = 0, **pairs) -> PairDraw:
    return PairDraw(store, Pairs(**pairs), seed=7, raw=raw)


ALL = np.arange(N)


def test_two_random_views_of_an_image():
    class Three:
        views = 3

    a_b = np.concatenate([draw(Three(), of="views")(epoch, ALL)[1] for epoch in range(100)], axis=1)
    assert (a_b[0] != a_b[1]).all()
    counts = np.zeros((4, 4), dtype=int)
    np.add.at(counts, tuple(a_b), 1)
    assert (counts[0] == 0).all()
    assert (counts[:, 0] == 0).all()
    off = counts[1:, 1:][~np.eye(3, dtype=bool)]
    assert off.min() > 0.85 * 1000  # six ordered pairs, 1,000 times each
    assert off.max() < 1.15 * 1000


def test_views_as_the_config_has_them(store):
    for raw, expected in ((1, [1, 0]), (2, [0, 0])):
        rows, views = draw(store, raw)(0, ALL)
        assert (rows == ALL).all()
        assert [bool((view > 0).all()) for view in views] == [bool(one) for one in expected]
        assert [bool((view == 0).all()) for view in views] == [not one for one in expected]


def test_of_one_view_the_other_is_the_image_as_it_is(tmp_path):
    one = make_store(tmp_path / "one", [np.ones((N, D), np.float32)] * 2)
    _, views = draw(one)(0, ALL)
    assert (views == [[1], [0]]).all()


@pytest.mark.parametrize("of", ["neighbours", "both"])
def test_neighbours(store, of):
    near = store.neighbours(ALL)
    good = np.setdiff1d(ALL, [4, 9])
    seen: dict[int, set[int]] = {int(i): set() for i in good}
    for epoch in range(60):
        rows, views = draw(store, of=of, neighbours=3)(epoch, good)
        assert (rows[0] == good).all()
        assert (views == 0).all() == (of == "neighbours")
        assert of == "neighbours" or (views > 0).all()
        for i, j in rows.T.tolist():
            seen[i].add(j)
    for i, others in seen.items():
        assert others == set(near[i, :3].tolist())  # one of the three nearest, each of them


def test_all_neighbours_of_the_store_where_none_are_counted(store):
    good = np.setdiff1d(ALL, [4, 9])
    found = {
        (i, j) for epoch in range(80) for i, j in draw(store, of="neighbours")(epoch, good)[0].T.tolist()
    }
    assert found == {(int(i), int(j)) for i in good for j in store.neighbours(good)[good.tolist().index(i)]}


def test_an_image_without_neighbours_is_paired_with_itself(store):
    rows, _ = draw(store, of="neighbours")(0, np.array([4, 9]))
    assert rows.tolist() == [[4, 9], [4, 9]]


@pytest.mark.parametrize("of", ["views", "neighbours", "both"])
def test_the_same_in_whichever_batch(store, of):
    whole = np.stack(draw(store, of=of)(3, ALL))
    order = np.random.default_rng(1).permutation(N)
    parts = [np.stack(draw(store, of=of)(3, part)) for part in np.array_split(order, 7)]
    assert (np.concatenate(parts, axis=2) == whole[:, :, order]).all()
    assert (np.stack(draw(store, of=of)(4, ALL)) != whole).any()
