"""The heads of a network told apart by the neighbours of a store: the right rows, at any number of ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from harness.stores import make_store

from ccscale.config.file import parse_config
from ccscale.evaluate import head_kappas as module
from ccscale.evaluate.head_kappas import head_kappas
from ccscale.features.kappa import neighbour_kappa
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.model.network import ContrastiveClustering


def test_heads_are_measured_on_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    views = [draw.normal(size=(90, 6)).astype(np.float32) for _ in range(2)]
    make_store(tmp_path / "store", views, bad=[3, 50])
    assert head_kappas(None, open_features(tmp_path / "store"), None) is None  # type: ignore[arg-type]
    find_neighbours(open_features(tmp_path / "store"), 7, device="cpu", show=False)
    store = open_features(tmp_path / "store")
    config = parse_config(
        {
            "data": {"features": str(tmp_path / "store")},
            "model": {"clusters": [4, 3], "heads": 2},
            "evaluate": {"batch": 16},
        }
    )
    network = ContrastiveClustering(config.model, 32, width=6)
    found = head_kappas(network, store, config)
    network.eval()
    with torch.no_grad():
        heads = network(torch.from_numpy(store.mean(np.arange(90)))).heads
    near = store.neighbours(np.arange(90))
    for p, kappa in zip(heads, found or (), strict=True):
        clusters = np.where(store.bad, -1, p.argmax(dim=1).numpy())
        assert kappa == pytest.approx(neighbour_kappa(clusters, np.where(near < 0, -1, clusters[near])))
    monkeypatch.setattr(module, "IMAGES", 30)
    some = head_kappas(network, store, config)
    assert some != found
    assert some == head_kappas(network, store, config)
