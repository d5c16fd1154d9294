"""Two views of an image in the same cluster: the figures, and the same views at any number of ranks."""

import numpy as np
import pytest
import torch
from conftest import small_settings
from harness.ranks import run_ranks

from ccscale.config import Config
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.stability import agreement, view_pairs
from ccscale.model.network import ContrastiveClustering


def pairs(a: list[int], b: list[int], k: int = 3) -> np.ndarray:
    return np.eye(k, dtype=np.float32)[np.array([a, b])]


def test_figures():
    found = agreement(pairs([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]))
    chance = (2 * 2 + 2 * 3 + 1 * 0) / 25
    assert (found["agreement"], found["views"]) == (0.6, 5)
    assert found["chance"] == pytest.approx(chance)
    assert found["stability"] == pytest.approx((0.6 - chance) / (1 - chance))


@pytest.mark.parametrize(
    ("a", "b", "stability"), [([0, 1, 2], [0, 1, 2], 1), ([1] * 4, [1] * 4, 0), ([0, 1] * 2, [0, 0, 1, 1], 0)]
)
def test_extremes(a, b, stability):
    assert agreement(pairs(a, b))["stability"] == pytest.approx(stability)


def test_merged_clusters_agree_more():
    found = pairs([0, 1, 2], [1, 0, 2])
    assert agreement(found)["agreement"] == pytest.approx(1 / 3)
    assert agreement(found, np.array([0, 0, 1]))["agreement"] == 1


def test_of_nothing():
    assert set(agreement(np.empty((2, 0, 3), np.float32)).values()) == {0}


def on_rank(rank: int, shards: str, settings: dict, images: int) -> np.ndarray | None:
    config = Config.model_validate(settings)
    torch.manual_seed(0)
    network = ContrastiveClustering(config.model, 16).eval()
    return view_pairs(network, Manifest.load(shards), ["train"], config, images, progress=False)


@pytest.mark.dist
def test_any_number_of_ranks(shards, tmp_path):
    images = 40
    settings = small_settings(shards, tmp_path) | {"evaluate": {"batch": 17}}
    alone = on_rank(0, str(shards), settings, images)
    assert alone is not None
    assert alone.shape == (2, images, 4)
    assert not np.allclose(alone[0], alone[1], atol=1e-4)  # the views differ
    first, other = run_ranks(2, on_rank, str(shards), settings, images)
    assert other is None
    assert np.allclose(first, alone, atol=1e-5)
