"""Advice on the number of clusters: right where clusters are plain."""

import numpy as np
import pytest
from harness.stores import make_store

from ccscale.errors import InputError
from ccscale.evaluate.advice import advise


def blobs(clusters: int, each: int) -> np.ndarray:
    """Return images around centres."""
    rng = np.random.default_rng(0)
    places = np.repeat(rng.normal(size=(clusters, 32)), each, axis=0)
    return (places + 0.4 * rng.normal(size=places.shape)).astype(np.float32)


@pytest.mark.parametrize("clusters", [3, 7])
def test_plain_clusters(tmp_path, clusters):
    """Also where some images cannot be decoded."""
    features = blobs(clusters, 40)
    features[::10] = 0
    store = make_store(tmp_path, features, bad=range(0, len(features), 10))
    advice = advise(store)
    assert clusters <= advice.clusters <= clusters + 1
    assert list(advice.agreement) == list(range(3, clusters * 36 // 20 + 1))
    assert advice == advise(store)


def test_too_few_images(tmp_path):
    store = make_store(tmp_path / "store", blobs(2, 20))
    with pytest.raises(InputError) as error:
        advise(store)
    assert str(error.value) == (
        f"{tmp_path}/store has 40 images, too few to advise on a number of clusters: say how many with --clusters"
    )
