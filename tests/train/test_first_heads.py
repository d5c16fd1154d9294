"""Heads that begin from clusters of a store: the clusters, the fit, and a run that is killed, or has two ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_settings, write_config
from harness.configs import refusal
from harness.stores import make_store
from runs import BOUNDS, SAME, difference, steps, train
from sklearn.metrics import adjusted_rand_score

from ccscale.config.file import parse_config
from ccscale.errors import InputError
from ccscale.features.first_clusters import FirstClusters
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import Features, open_features
from ccscale.features.store_config import open_run_store
from ccscale.model.network import ContrastiveClustering
from ccscale.train.first_heads import prepare_heads

K = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Four groups of features, two views of each row, two rows that are bad."""
    draw = np.random.default_rng(0)
    labels = np.arange(240) % K
    middles = 4 * np.eye(K, 8)[labels]
    views = [(middles + draw.normal(size=middles.shape)).astype(np.float32) for _ in range(2)]
    store = make_store(tmp_path_factory.mktemp("store") / "store", views, labels, bad=[5, 200])
    find_neighbours(store, 12, device="cpu", show=False)
    return open_features(store.folder)


def settings_of(store: Features, run: Path) -> dict[str, Any]:
    settings = small_settings(Path(), run, train__max_steps=6)
    model = {"clusters": [K, 3], "heads": 2, "begin": ["spectral", "smoothed"], "head_width": 16}
    model |= {"head_input": "centred"}
    return settings | {
        "data": {"features": str(store.folder)},
        "views": {},
        "model": model,
        "pairs": {"of": "neighbours"},
        "loss": {"objective": "temi", "teacher_decay": 0, "instance_weight": 0},
    }


def test_each_kind_finds_the_groups(store: Features) -> None:
    first = FirstClusters(store, torch.device("cpu"))
    assert np.array_equal(first.rows, np.delete(np.arange(240), [5, 200]))
    for kind in ("features", "smoothed", "spectral"):
        found, clusters = first.find([kind], K, seed=0)
        assert found == kind
        assert adjusted_rand_score(store.labels[first.rows], clusters) > 0.95


def test_of_several_kinds_the_one_that_keeps_neighbours_together(
    store: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FirstClusters(store, torch.device("cpu"))
    monkeypatch.setattr(first, "_means", lambda vectors, k, seed: np.arange(len(first.rows)) % 2)
    assert first.find(["smoothed", "features"], K, seed=0)[0] == "smoothed"  # the first of equals
    good = store.labels[first.rows]
    monkeypatch.setattr(first, "_means", lambda vectors, k, seed: good if vectors.width == 8 else 0 * good)
    assert first.find(["spectral", "smoothed"], K, seed=0)[0] == "smoothed"


@pytest.mark.slow
def test_heads_are_fitted_and_the_teacher_begins_with_them(
    store: Features, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, features = open_run_store(parse_config(settings_of(store, tmp_path)))
    network = ContrastiveClustering(config.model, 8, width=8)
    network.begin_training(config.loss)
    prepare_heads(network, features, config)
    told = [line for line in capsys.readouterr().err.splitlines() if "begins from" in line]
    assert len(told) == 4
    rows = np.flatnonzero(~store.bad)
    network.eval()
    for head in network.cluster_head:
        assert np.allclose(head.centred.mean, store.mean(rows).mean(axis=0), atol=1e-5)
    x = torch.from_numpy(store.mean(rows))
    for p in network(x).heads[:2]:
        assert adjusted_rand_score(store.labels[rows], p.argmax(dim=1).numpy()) > 0.9
    assert network.teacher is not None
    assert all(torch.equal(*both) for both in zip(network.teacher(x), network(x).heads, strict=True))


def test_what_does_not_go_together_is_refused(store: Features, tmp_path: Path) -> None:
    settings = settings_of(store, tmp_path)
    assert "which needs a feature store" in refusal("model.begin=features")
    assert "which needs the mean of a feature store" in refusal("model.head_input=centred")
    assert "head_norm none or layer" in refusal("model.head_norm=batch", settings=settings)
    weightless = {**settings, "loss": {"cluster_weight": 0}}
    assert "none is trained" in refusal(settings=weightless)
    bare = make_store(tmp_path / "bare", np.eye(8, dtype=np.float32), manifest=None)
    alone = {
        **settings,
        "data": {"features": str(bare.folder)},
        "pairs": {"of": "views"},
        "views": {"raw": 2},
    }
    with pytest.raises(InputError, match=r"model\.begin is spectral, smoothed, but .* has no neighbours"):
        open_run_store(parse_config(alone))


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "zero", "worlds", "bound"),
    [("fp32", 0, (1, 1), SAME), ("fp64", 1, (2, 1), BOUNDS["fp64"])],
)
def test_a_run_that_begins_from_clusters_goes_on_where_it_was(
    store: Features, tmp_path: Path, precision: str, zero: int, worlds: tuple[int, int], bound: float
) -> None:
    """One head: what takes the time is to fit them."""
    config = write_config(tmp_path, settings_of(store, tmp_path / "run"))
    overrides = [f"train.precision={precision}", f"train.zero={zero}", f"model.clusters={K}", "model.heads=1"]
    train(config, 1, [*overrides, f"run={tmp_path / 'unbroken'}"])
    train(config, worlds[0], [*overrides, "train.max_steps=3"])
    train(config, worlds[1], overrides)
    digests, worst = difference(steps(tmp_path / "run"), steps(tmp_path / "unbroken"))
    assert digests
    assert worst <= bound
