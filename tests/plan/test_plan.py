"""The plan of a run, by its command: what fits, what does not, and what helps."""

import json
from pathlib import Path

import pytest
from conftest import small_settings, write_config

from ccscale.cli.main import main


@pytest.fixture
def config(shards, tmp_path) -> Path:
    return write_config(tmp_path, small_settings(shards, tmp_path / "run"))


def test_json(config, capsys, tmp_path):
    assert main(["plan", str(config), "--nodes", "2", "--gpus-per-node", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)
    assert err == ""
    assert (plan["ranks"], plan["images_per_rank"], plan["lanes"]) == (4, 4, 16)
    assert plan["memory"]["parameters"]["step"] >= 4 * plan["parameters"]
    assert (
        plan["peak"]
        == max(plan["total"].values())
        == max(sum(part[moment] for part in plan["memory"].values()) for moment in plan["total"])
    )
    assert plan["sent_by_collective"]["all_reduce"] == sum(
        entry["bytes"] for entry in plan["sent"] if entry["collective"] == "all_reduce"
    )
    assert plan["data"]["steps_per_epoch"] == 9
    assert plan["largest_global_batch"] <= 150  # all images of the data
    assert plan["fits"] is True
    assert not (tmp_path / "run").exists()


def test_table(config, capsys):
    assert main(["plan", "--gpus-per-node", "2", str(config), "train.zero=1"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("1 × 2 = 2 ranks, 8 of 16 images each; test_resnet (")
    assert "master weights" in out
    assert "batch norm, backward" in out
    assert any(line.startswith("150 images in 5 shards, of which a rank reads 5") for line in lines)
    assert lines[-1].startswith("fits: a rank takes ")


def test_one_rank(config, capsys):
    assert main(["plan", str(config)]) == 0
    assert "A single rank sends nothing." in capsys.readouterr().out


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_what_does(config, capsys):
    command = ["plan", str(config), "--gpus-per-node", "2", "views.size=64", "train.device=auto"]
    main([*command, "--json"])
    needed = json.loads(capsys.readouterr().out)["peak"]
    command += ["--gpu-memory", str((needed - 1_000_000) / 1e9)]
    assert main([*command, "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] is False
    assert plan["peak"] == needed
    assert plan["available"] == needed - 1_000_000
    remedies = plan["remedies"]
    assert [remedy.partition("=")[0] for remedy in remedies] == [
        "train.micro_batch",
        "train.global_batch",
    ]
    assert remedies[0] == "train.micro_batch=8"
    for remedy in remedies:
        assert main([*command, remedy]) == 0, remedy
        capsys.readouterr()
    assert main(command) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("does not fit: a rank takes ")
    assert last.endswith(f"; set {' or '.join(remedies)}")


@pytest.mark.slow
def test_without_the_data(config, capsys, tmp_path):
    assert main(["plan", str(config), f"data.shards={tmp_path}/none", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["data"] is None
    (note,) = (note for note in plan["notes"] if "cannot be read" in note)
    assert f"there is no folder {tmp_path}/none" in note


def test_refused(refused, config):
    assert refused("plan", config, "--gpus-per-node", "3").startswith("3 ranks do not divide the 16 lanes")
    assert "than a global batch of 512" in refused("plan", config, "train.global_batch=512")
    assert refused("plan", config, "--nodes", "0") == "--nodes must be above 0"
    assert refused("plan", config, "--gpu-memory", "0") == "--gpu-memory must be above 0"
    assert "timm has no model 'resnet35'" in refused("plan", config, "model.backbone=resnet35")
    assert "has no split 'trian'" in refused("plan", config, "data.splits=[trian]")
