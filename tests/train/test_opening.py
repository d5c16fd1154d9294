"""What a run asks for when it is opened: at its beginning the weights it starts from, later none but its own."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from conftest import small_settings, write_config

from ccscale.checkpoint.run import read_run
from ccscale.cli.main import main
from ccscale.config.file import parse_config
from ccscale.model.export import load
from ccscale.train.start import begin_with


@pytest.fixture
def begun(request, shards: Path, tmp_path: Path, run: Path, monkeypatch) -> Path:
    """Begin a run of two steps from weights that are out of reach afterwards; return its config."""
    key = request.param
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((run / "checkpoints/step-00000002/model.safetensors").read_bytes())
    changes = {key: True if key == "model__pretrained" else str(weights)}
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2, **changes)
    create = timm.create_model
    with monkeypatch.context() as patch:  # as if there were a network
        patch.setattr(
            timm, "create_model", lambda *names, **options: create(*names, **options | {"pretrained": False})
        )
        assert main(["train", str(write_config(tmp_path, settings))]) == 0
    weights.unlink()
    return tmp_path / "config.yaml"


def origin(config: Path) -> tuple[Any, Any]:
    model = read_run(yaml.safe_load(config.read_text())["run"]).model
    return model.pretrained, model.weights


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["model__pretrained", "model__weights"], indirect=True)
def test_a_resume_does_not_ask_for_the_initial_weights(begun: Path, tmp_path: Path, capsys) -> None:
    before = origin(begun)
    run = tmp_path / "run"
    assert main(["train", str(begun), "train.max_steps=3"]) == 0
    assert "going on from step 2 of 3" in capsys.readouterr().err
    for arguments in (
        ["evaluate", str(run)],
        ["export", str(run), str(tmp_path / "out")],
        ["report", str(run)],
    ):
        assert main(arguments) == 0
    assert main(["plan", str(run / "config.yaml"), "--nodes", "1", "--gpus-per-node", "1"]) == 0
    capsys.readouterr()
    # Named anew, or no longer: it is told that nobody looks there, and the run remembers where it came from.
    for number, changes in enumerate(
        (["model.weights=elsewhere.safetensors"], ["model.pretrained=false", "model.weights=null"])
    ):
        assert main(["train", str(begun), f"train.max_steps={4 + number}", *changes]) == 0
        told = capsys.readouterr().err
        assert "ignored, since the run resumes from its checkpoint" in told
        assert origin(begun) == before


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["model__weights"], indirect=True)
def test_without_a_checkpoint_they_are_asked_for(begun: Path, tmp_path: Path, run: Path, capsys) -> None:
    """The run takes its first step again, from the file where it is now."""
    (tmp_path / "run/checkpoints/step-00000002").rename(tmp_path / "away")
    assert main(["train", str(begun)]) == 2
    assert "there is no file" in capsys.readouterr().err
    moved = run / "checkpoints/step-00000002/model.safetensors"
    assert main(["train", str(begun), f"model.weights={moved}"]) == 0
    assert origin(begun) == (False, str(moved))


def test_a_run_that_began_from_nothing_is_another(shards: Path, tmp_path: Path, run: Path, refused) -> None:
    """Its checkpoint does not come from the weights that are named now."""
    settings = small_settings(shards, run, train__max_steps=2, model__clusters=6)
    told = refused("train", write_config(tmp_path, settings), "model.weights=there.safetensors")
    assert "contains a run with other settings: model.weights was None and is now 'there.safetensors'" in told


@pytest.mark.slow
def test_a_run_begins_with_another_ones_network(
    shards: Path, tmp_path: Path, run: Path, monkeypatch, capsys
) -> None:
    """Heads included; nothing is downloaded, and later the other run is not needed."""
    other = shutil.copytree(run, tmp_path / "other@2nd")
    changes = {
        "model__clusters": 6,
        "model__stem": "small",
        "model__pretrained": True,
        "train__start": f"{other}@2",
        "train__max_steps": 1,
    }
    config = parse_config(small_settings(shards, tmp_path / "run", **changes))
    begun = begin_with(f"{other}@2", config).state_dict()
    expected = load(other / "checkpoints/step-00000002").state_dict()
    assert begun.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in begun.items())

    file = write_config(tmp_path, small_settings(shards, tmp_path / "run", **changes))
    assert main(["train", str(file)]) == 0
    assert f"starting from the network of {other}, step 2" in capsys.readouterr().err
    shutil.rmtree(other)
    assert main(["train", str(file), "train.max_steps=2", "train.start=null"]) == 0
    assert "going on from step 1 of 2" in capsys.readouterr().err
    assert read_run(tmp_path / "run").train.start == f"{other}@2"


STARTS = {
    "{run}@3": "{run} has no checkpoint of step 3; there are: 2",
    "{run}@bst": "train.start is {run}@bst: 'bst' is not a checkpoint of {run}; write RUN@STEP, RUN@best or the "
    "like; did you mean 'best'",
    "{run}@best-nmi": "the network of {run}/checkpoints/step-00000002 (train.start) has other settings: "
    "model.clusters is 6 there and 4 here",
    "{run}/none": "{run}/none is not the folder of a run",
}


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_cannot_be(shards: Path, tmp_path: Path, run: Path, refused, start: str) -> None:
    config = write_config(tmp_path, small_settings(shards, tmp_path / "run", model__stem="small"))
    assert STARTS[start].format(run=run) in refused("train", config, "train.start=" + start.format(run=run))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_what_changes_memory_alone_may_change(shards: Path, tmp_path: Path, capsys, backbone: str) -> None:
    """And is told; where batch norm sees the micro-batches, their size is the run's."""
    changes = {
        "model__backbone": backbone,
        "model__stem": "standard",
        "views__size": 160,
        "train__max_steps": 1,
    }
    file = str(write_config(tmp_path, small_settings(shards, tmp_path / "run", **changes)))
    assert main(["train", file]) == 0
    assert main(["train", file, "train.max_steps=2", "train.zero=1"]) == 0
    told = capsys.readouterr().err
    assert "train.zero was 0 and is now 1: this affects memory and rounding only" in told
    assert "converting step-00000001 from ZeRO 0 to 1" in told
    assert read_run(tmp_path / "run").train.zero == 1
    code = main(["train", file, "train.max_steps=3", "train.zero=1", "train.micro_batch=8"])
    told = capsys.readouterr().err
    if backbone == "test_vit":
        assert code == 0
        assert "train.micro_batch was 16 and is now 8: this affects memory and rounding" in told
        assert "going on from step 2 of 3" in told
    else:
        assert code == 2
        assert (
            "contains a run with other settings: train.micro_batch was 16 and is now 8, and the "
            "backbone's batch norm" in told
        )
