"""Runs on a feature store: the images' schedule, heads alone in checkpoints, a whole network in exports."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import small_settings, write_config
from runs import BOUNDS, Trial, difference, run_trial, steps
from safetensors.torch import load_file

import ccscale
from ccscale.cli.main import main
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.model.export import read_export
from ccscale.model.frozen_file import FILE


def settings_of(store: Path, run: Path, **changes) -> dict:
    settings = small_settings(Path(), run, **{"train__max_steps": 14, "train__save_every": 7} | changes)
    return settings | {"data": {"features": str(store)}, "views": {}, "model": {"clusters": 4}}


@pytest.fixture(scope="module")
def store(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a small network of random weights, of three views beside the images as they are."""
    place = tmp_path_factory.mktemp("store") / "store"
    options = "--backbone test_resnet --weights random --size 32 --views 3 --dtype float32 --device cpu"
    assert main(["embed", str(shards), str(place), *options.split()]) == 0
    find_neighbours(open_features(place), 5, device="cpu", show=False)
    return place


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    assert main(["train", str(write_config(root, settings_of(store, root / "run")))]) == 0
    return root / "run"


def test_its_config_is_resolved(run, store):
    config = ccscale.load_config(run / "config.yaml")
    assert (config.model.backbone, config.model.freeze, config.views.size) == ("test_resnet", "all", 32)
    assert config.data.place == str(store)


def test_the_same_batches_and_losses_as_on_images(store, shards, tmp_path):
    """With the whole image as both views there is nothing that the two could see otherwise."""
    kept = json.loads((store / "features.json").read_text())["settings"]["model"]
    on_images = small_settings(shards, tmp_path / "images", train__max_steps=12)
    weights = str(store / "backbone.safetensors")
    model = {"backbone": "test_resnet", "clusters": 4, "freeze": "all", "weights": weights}
    on_images |= {"views": {"size": 32, "raw": 2}, "model": model | {"normalize": kept["normalize"]}}
    on_store = settings_of(store, tmp_path / "features", train__max_steps=12) | {"views": {"raw": 2}}
    for settings in (on_images, on_store):
        assert main(["train", str(write_config(tmp_path, settings))]) == 0
    digests, worst = difference(steps(tmp_path / "features"), steps(tmp_path / "images"))
    assert digests
    assert worst < 1e-5
    frozen, whole = (load_file(tmp_path / name / FILE) for name in ("features", "images"))
    assert frozen.keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in frozen.items())


def test_checkpoints_are_of_the_heads_and_exports_whole(run, store, shards, tmp_path):
    trained = load_file(run / "checkpoints/step-00000014/model.safetensors")
    assert not any(name.startswith("backbone") for name in trained)
    _, _, joined = read_export(run / "checkpoints/step-00000014")
    backbone = load_file(store / "backbone.safetensors")
    assert all(torch.equal(value, joined[f"backbone.{name}"]) for name, value in backbone.items())
    assert main(["evaluate", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    shutil.copytree(run, tmp_path / "moved")
    tables = {}
    for name, what in (("run", run), ("export", tmp_path / "out"), ("moved", tmp_path / "moved")):
        out = tmp_path / f"{name}.csv"
        assert main(["predict", str(what), "--shards", str(shards), "--out", str(out)]) == 0
        tables[name] = list(csv.DictReader(out.open()))
    assert tables["run"] == tables["export"] == tables["moved"]
    on_store = pq.read_table(run / "assignments.parquet").to_pylist()
    assert [row["key"] for row in on_store] == [row["key"] for row in tables["run"]]
    network, features = ccscale.load(tmp_path / "out"), open_features(store)
    with torch.inference_mode():
        as_it_is, of_all_views = (
            network(torch.from_numpy(values)).assignments.argmax(dim=1).tolist()
            for values in (features.take(np.arange(features.rows)), features.mean(np.arange(features.rows)))
        )
    assert [int(row["cluster"]) for row in tables["run"]] == as_it_is
    assert [row["cluster"] for row in on_store] == of_all_views


def test_the_report_has_the_shards_pictures_where_they_are(run, capsys, monkeypatch):
    assert main(["report", str(run)]) == 0
    assert "no pictures" not in capsys.readouterr().err
    with_pictures = (run / "report.html").stat().st_size

    def gone(self, splits):
        raise ccscale.InputError("the shards are not there")

    monkeypatch.setattr("ccscale.data.shards.manifest.Manifest.check_files", gone)
    assert main(["report", str(run)]) == 0
    assert "the report has no pictures: the shards are not there" in capsys.readouterr().err
    assert 0 < (run / "report.html").stat().st_size < with_pictures


@pytest.mark.parametrize("of", ["views", "both"])
def test_a_run_goes_on_bit_for_bit(store, tmp_path, of):
    for name, stops in (("unbroken", [14]), ("stopped", [5, 14])):
        config = str(write_config(tmp_path, settings_of(store, tmp_path / name)))
        for stop in stops:
            assert main(["train", config, f"train.max_steps={stop}", f"pairs.of={of}"]) == 0
    digests, worst = difference(steps(tmp_path / "stopped"), steps(tmp_path / "unbroken"))
    assert digests
    assert worst == 0
    for name in (FILE, "checkpoints/step-00000014/model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_another_store_is_another_run(run, store, tmp_path, refused):
    other = tmp_path / "other"
    shutil.copytree(store, other)
    text = (other / "features.json").read_text()
    listing = json.loads(text)
    listing["files"][0]["sha256"] = "0" * 64
    (other / "features.json").write_text(json.dumps(listing))
    assert refused("train", run / "config.yaml", f"data.features={other}") == (
        f"{run} contains a run with other settings: the data in {other} are not the ones it was begun "
        "with; use another folder (run=DIR), or the old settings"
    )
    (other / "features.json").write_text(text)
    assert main(["train", str(run / "config.yaml"), f"data.features={other}"]) == 0  # it was moved


@pytest.mark.dist
@pytest.mark.slow
def test_it_is_the_same_on_any_number_of_ranks(store, tmp_path):
    """In float64, with neighbours; killed, and gone on with on another number of ranks."""
    config = write_config(tmp_path, settings_of(store, tmp_path / "unused"))
    overrides = ["train.precision=fp64", "train.zero=1", "pairs.of=both"]
    run_trial(config, tmp_path / "one", Trial(1, 0), overrides)
    for number, trial in enumerate((Trial(2, 0, killed_after=6, goes_on_at=1), Trial(4, 0))):
        run_trial(config, tmp_path / f"run{number}", trial, overrides)
        digests, worst = difference(steps(tmp_path / f"run{number}"), steps(tmp_path / "one"))
        assert digests
        assert worst <= BOUNDS["fp64"]
