"""Cluster heads that are found: centres of k-means on a feature store; saved, chosen, served like trained ones."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import small_settings, write_config
from harness.stores import make_store
from runs import Trial, run_trial
from safetensors.torch import load_file

import ccscale
from ccscale.cli.main import main
from ccscale.features.kmeans import k_means
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import Features, open_features
from ccscale.train.step import Stepper

K = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Four groups of features, three views of each row."""
    draw = np.random.default_rng(0)
    labels = draw.integers(K, size=192)
    middles = 3 * np.eye(K, 16)[labels]
    views = [(middles + draw.normal(size=middles.shape)).astype(np.float32) for _ in range(3)]
    store = make_store(tmp_path_factory.mktemp("store") / "store", views, labels)
    find_neighbours(store, 8, device="cpu", show=False)
    return store


def settings_of(store: Features, run: Path, **changes) -> dict:
    settings = small_settings(Path(), run, **{"train__max_steps": 12, "train__save_every": 6} | changes)
    model = {"clusters": [K, 6], "centres": ["embeddings", "whitened", "features"], "embedding": 8}
    found = {"data": {"features": str(store.folder)}, "views": {}, "model": model, "pairs": {"of": "both"}}
    return settings | found | {"loss": {"cluster_weight": 0}}


def centres_of(run: Path, step: int = 12) -> dict[str, torch.Tensor]:
    weights = load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")
    return {name: value for name, value in weights.items() if name.startswith("centre_heads")}


@pytest.mark.slow
def test_found_saved_chosen_and_served(store, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(write_config(tmp_path, settings_of(store, run)))]) == 0
    found = centres_of(run)
    centres = [value for name, value in found.items() if name.endswith("centres")]
    assert [tuple(value.shape) for value in centres] == [(4, 8), (6, 8), (4, 3), (6, 5), (4, 16), (6, 16)]
    assert all(torch.allclose(value.norm(dim=1), torch.ones(len(value))) for value in centres)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["of"] for row in result["heads"]] == [
        of for of in ("no training", "embeddings", "whitened", "features") for _ in range(2)
    ]
    assert [row["loss"] is None for row in result["heads"]] == [False] * 2 + [True] * 6
    served = result["heads"][result["head"]]
    assert served["of"] != "no training"
    assert served["kappa"] == max(row["kappa"] for row in result["heads"][2:] if row["clusters"] == K)
    assert result["acc"] > 0.8
    assert main(["evaluate", str(run), "--clusters", "6"]) == 0
    assert "chosen by its neighbours' kappa" in capsys.readouterr().out


@pytest.mark.slow
def test_an_exported_network_has_them(tmp_path, shards, capsys):
    """On images, too: of those of its own store an export makes what the run makes."""
    store, run = tmp_path / "store", tmp_path / "run"
    options = "--backbone test_resnet --weights random --size 32 --device cpu --workers 0 --neighbours 4"
    assert main(["embed", str(shards), str(store), *options.split()]) == 0
    settings = settings_of(open_features(store), run)
    settings["model"] |= {"clusters": K}
    settings["pairs"] = {"of": "neighbours"}
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    tables = []
    for what in (run, tmp_path / "out"):
        place = tmp_path / f"{what.name}.parquet"
        assert main(["predict", str(what), "--shards", str(shards), "--out", str(place)]) == 0
        tables.append(pq.read_table(place)["cluster"].to_pylist())
    assert tables[0] == tables[1] == pq.read_table(run / "assignments.parquet")["cluster"].to_pylist()
    assert ccscale.load(tmp_path / "out").serving > 0  # the trained one, which is none, is the first


def test_features_are_assigned_to_the_nearest_centre(store, tmp_path):
    run = tmp_path / "run"
    settings = settings_of(store, run)
    settings["model"] |= {"clusters": K, "centres": "features"}
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    assert main(["evaluate", str(run)]) == 0
    (centres,) = centres_of(run).values()
    table = pq.read_table(run / "assignments.parquet")
    features = np.mean([store.take(np.arange(store.rows), view) for view in range(3)], axis=0)
    assert np.allclose(k_means(features, K, 0, spherical=True).centres, centres, atol=1e-6)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert table["cluster"].to_numpy().tolist() == (features @ centres.numpy().T).argmax(axis=1).tolist()


def test_a_run_that_was_stopped_before_assigns_nothing(store, tmp_path, capsys, monkeypatch):
    run, take = tmp_path / "run", Stepper.take

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return take(*arguments)

    config = write_config(tmp_path, settings_of(store, run) | {"evaluate": {"every": 0}})
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "take", stopped)
        assert main(["train", str(config)]) == 75  # stopped, and saved
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    assert "the run has no clusters yet" in capsys.readouterr().err
    assert main(["train", str(config)]) == 0
    assert main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize("stop", [6, 7])
@pytest.mark.slow
def test_a_run_that_was_stopped_finds_the_same(store, tmp_path, stop):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main(["train", str(write_config(tmp_path, settings_of(store, whole)))]) == 0
    first = write_config(tmp_path, settings_of(store, resumed))
    assert main(["train", str(first), f"train.max_steps={stop}"]) == 0
    assert centres_of(resumed, stop)
    assert main(["train", str(first)]) == 0
    for name, value in centres_of(whole).items():
        assert torch.equal(value, centres_of(resumed)[name])


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_find_what_one_does(store, tmp_path):
    config = write_config(tmp_path, settings_of(store, tmp_path / "unused"))
    precise = ["train.precision=fp64", "train.zero=1", "model.centres=[features]"]
    for world in (1, 2):
        run_trial(config, tmp_path / str(world), Trial(world, 0), precise)
    one, two = (centres_of(tmp_path / str(world)) for world in (1, 2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
