"""What a run asks for when it is opened: at its beginning the weights it starts from, later none but its own."""

from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from conftest import small_settings, write_config

from ccscale.cli import main
from ccscale.train.run import read_run


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
        assert "it is not looked at, since the run goes on from its checkpoint" in told
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
    assert "holds another run: model.weights was None and is now 'there.safetensors'" in told
