"""Advice on the number of clusters: right where clusters are plain, none where there are none."""

import itertools

import numpy as np
import pytest
from harness.stores import make_store

from ccscale.errors import InputError
from ccscale.evaluate.advice import MOST, advise, advise_rows, tried_numbers
from ccscale.evaluate.criteria import CRITERIA


def blobs(clusters: int, each: int, width: int = 32) -> np.ndarray:
    """Return images around centres."""
    rng = np.random.default_rng(0)
    places = np.repeat(rng.normal(size=(clusters, width)), each, axis=0)
    return (places + 0.4 * rng.normal(size=places.shape)).astype(np.float32)


@pytest.mark.parametrize("clusters", [3, 7])
def test_plain_clusters(tmp_path, clusters):
    """Also where some images cannot be decoded."""
    features = blobs(clusters, 30)
    features[::10] = 0
    store = make_store(tmp_path, features, bad=range(0, len(features), 10))
    advice = advise(store)
    assert clusters - 1 <= advice.clusters <= clusters + 1
    assert advice.low <= clusters <= advice.high
    assert advice.seen
    assert list(advice.tried) == list(range(2, clusters * 27 // 20 + 1))
    assert [vote.criterion for vote in advice.votes] == list(CRITERIA)
    assert advice == advise(store)


@pytest.mark.parametrize("kind", ["normal", "sphere", "cube"])
def test_no_clusters(kind):
    rng = np.random.default_rng(1)
    rows = rng.uniform(size=(120, 8)) if kind == "cube" else rng.normal(size=(120, 8)) + (kind == "normal")
    advice = advise_rows(lambda most: rows[:most], len(rows), "here")
    assert not advice.seen
    assert advice.sentence.startswith("no clusters are seen; ")


def test_too_few_images(tmp_path):
    store = make_store(tmp_path / "store", blobs(2, 20))
    with pytest.raises(InputError) as error:
        advise(store)
    assert str(error.value) == (
        f"{tmp_path}/store has 40 images, too few for advice on the number of clusters (at least 60): set "
        "it with --clusters"
    )


def test_numbers_lie_closely_where_they_are_small():
    tried = tried_numbers(MOST)
    assert tried[:15] == list(range(2, 17))
    assert all(after <= 1.2 * before for before, after in itertools.pairwise(tried[14:]))
    assert tried[-1] <= MOST < tried[-1] * 1.2
