"""Neighbours that are found once, beside scikit-learn's; their kappa by clusters that change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from harness.stores import make_store
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import NearestNeighbors

from ccscale.config.file import parse_config
from ccscale.evaluate import initial_neighbours
from ccscale.evaluate.initial_neighbours import initial_neighbour_kappa
from ccscale.model.network import ContrastiveClustering


def test_neighbours_stay_and_clusters_are_compared_with_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial_neighbours, "NEIGHBOURS", 3)
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    store = make_store(tmp_path / "store", x, bad=[7])
    config = parse_config({"data": {"features": str(tmp_path / "store")}, "model": {"clusters": 3}})
    data = store.whole.manifest, ("train",), config
    near = None
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = ContrastiveClustering(config.model, 32, 8).eval()
        found = initial_neighbour_kappa(network, *data, near, features=store.at(("train",)))
        assert found is not None
        with torch.inference_mode():
            clusters = network(torch.from_numpy(x)).assignments.argmax(dim=1).numpy()
        kappa, near = found
        good = np.arange(60) != 7
        own = np.repeat(clusters[good], 3)
        assert kappa == pytest.approx(cohen_kappa_score(own, clusters[near[good]].ravel()))
    unit = x[good] / np.linalg.norm(x[good], axis=1, keepdims=True)
    expected = NearestNeighbors(n_neighbors=4).fit(unit).kneighbors(return_distance=False)[:, :3]
    assert np.array_equal(near[good], np.flatnonzero(good)[expected])
    assert (near[7] == -1).all()
