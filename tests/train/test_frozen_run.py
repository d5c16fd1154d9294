"""Runs that keep a part of the network frozen: what they save, how they go on, what is made of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import small_settings, write_config
from runs import BOUNDS, Trial, difference, run_trial, steps
from safetensors.torch import load_file

import ccscale
from ccscale.checkpoint import choose
from ccscale.cli.main import main
from ccscale.errors import InputError
from ccscale.model.export import read_export
from ccscale.model.frozen_file import FILE


def settings(shards: Path, run: Path, **changes) -> dict:
    return small_settings(
        shards, run, **{"model__freeze": 2, "train__max_steps": 4, "train__save_every": 2} | changes
    )


@pytest.fixture(scope="module")
def frozen_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with two of four stages frozen, a checkpoint after every two."""
    root = tmp_path_factory.mktemp("frozen")
    assert main(["train", str(write_config(root, settings(shards, root / "run")))]) == 0
    return root / "run"


def checkpoint(run: Path, step: int) -> Path:
    return run / f"checkpoints/step-{step:08d}"


def test_checkpoints_hold_what_is_trained(frozen_run):
    frozen = load_file(frozen_run / FILE)
    trained = {step: load_file(checkpoint(frozen_run, step) / "model.safetensors") for step in (2, 4)}
    assert all(
        name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2"))
        for name in frozen
    )
    assert frozen.keys().isdisjoint(trained[4])
    assert any(not torch.equal(value, trained[4][name]) for name, value in trained[2].items())
    for path in checkpoint(frozen_run, 4).glob("deepspeed/*.pt"):
        saved = torch.load(path, weights_only=False)["module"]
        assert frozen.keys().isdisjoint(saved)
        assert saved.keys() == trained[4].keys()


def test_what_is_frozen_is_that_of_the_beginning(frozen_run):
    """Weights and running statistics, bit for bit, after all steps."""
    config = ccscale.load_config(frozen_run / "config.yaml")
    torch.manual_seed(config.seed)
    begun = ccscale.ContrastiveClustering(config.model, config.views.size).state_dict()
    for name, value in load_file(frozen_run / FILE).items():
        assert torch.equal(value, begun[name]), name


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(frozen_run, shards, tmp_path):
    run = tmp_path / "run"
    config = str(write_config(tmp_path, settings(shards, run)))
    assert main(["train", config, "train.max_steps=2"]) == 0
    assert main(["train", config]) == 0
    digests, worst = difference(steps(run), steps(frozen_run))
    assert digests
    assert worst == 0
    for name in (FILE, "checkpoints/step-00000004/model.safetensors"):
        assert (run / name).read_bytes() == (frozen_run / name).read_bytes()
    # Under another ZeRO stage, by the universal format.
    assert main(["train", config, "train.max_steps=5", "train.zero=2"]) == 0
    assert main(["train", config, "train.max_steps=6", "train.zero=0"]) == 0


def test_exports_are_whole(frozen_run, tmp_path):
    assert main(["export", str(frozen_run), str(tmp_path / "out")]) == 0
    _, _, joined = read_export(checkpoint(frozen_run, 4))
    written = load_file(tmp_path / "out/model.safetensors")
    assert written.keys() == joined.keys()
    assert all(torch.equal(value, joined[name]) for name, value in written.items())
    images = torch.rand(3, 3, 16, 16)
    one, two = ccscale.load(tmp_path / "out"), ccscale.load(checkpoint(frozen_run, 4))
    assert torch.equal(one(images).assignments, two(images).assignments)
    assert "frozen" not in json.loads((tmp_path / "out/config.json").read_text())


def test_another_run_begins_with_its_network(frozen_run, shards, tmp_path):
    changes = {"model": {"backbone": "test_resnet", "clusters": 4, "freeze": "all"}}
    run = tmp_path / "run"
    config = write_config(tmp_path, settings(shards, run, **changes))
    assert main(["train", str(config), f"train.start={frozen_run}", "train.max_steps=1"]) == 0
    whole = read_export(checkpoint(frozen_run, 4))[2]
    for name, value in load_file(run / FILE).items():
        assert torch.equal(value, whole[name])


def test_a_file_that_is_gone_or_another(frozen_run, tmp_path, refused):
    run = tmp_path / "run"
    shutil.copytree(frozen_run, run)
    path = run / FILE
    kept = path.read_bytes()
    path.write_bytes(kept[:-4] + bytes(4))
    sha256 = json.loads((checkpoint(run, 4) / "config.json").read_text())["frozen"]
    changed = (
        f"{path} was changed or damaged: its SHA-256 is not {sha256}, which the run's checkpoints were trained "
        "with; restore it"
    )
    assert refused("evaluate", run) == changed
    with pytest.raises(InputError) as caught:
        read_export(choose(run).newest.path)
    assert str(caught.value) == changed
    path.unlink()
    gone = (
        f"{path} is missing; it holds the frozen weights of the run, which are not in its checkpoints: "
        "restore it"
    )
    assert refused("export", run, tmp_path / "out") == gone
    assert refused("train", run / "config.yaml", f"run={run}", "train.max_steps=9") == gone


def test_another_freeze_is_another_run(frozen_run, refused):
    told = refused("train", frozen_run / "config.yaml", "model.freeze=1")
    assert told == (
        f"{frozen_run} contains a run with other settings: model.freeze was 2 and is now 1; use another "
        "folder (run=DIR), or the old settings"
    )


@pytest.mark.dist
@pytest.mark.slow
def test_it_is_the_same_on_any_number_of_ranks(shards, tmp_path):
    """In float64; killed, gone on with under another stage and number of ranks."""
    config = write_config(tmp_path, settings(shards, tmp_path / "unused", train__max_steps=6))
    run_trial(config, tmp_path / "one", Trial(1, 0), ["train.precision=fp64", "train.zero=1"])
    for number, (trial, zero) in enumerate(
        ((Trial(2, 1, killed_after=3, goes_on_at=1), 2), (Trial(4, 0), 1))
    ):
        run = tmp_path / f"run{number}"
        run_trial(config, run, trial, ["train.precision=fp64", f"train.zero={zero}"])
        digests, worst = difference(steps(run), steps(tmp_path / "one"))
        assert digests
        assert worst <= BOUNDS["fp64"]
        assert (run / FILE).read_bytes() == (tmp_path / "one" / FILE).read_bytes()
