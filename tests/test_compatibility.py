"""What 0.1 wrote is read by all that came later: files that its own code wrote (`fixtures/write_v0_1.py`)."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import unpack
from harness import smallest

import ccscale
from ccscale.checkpoint.metrics_file import read_lines
from ccscale.checkpoint.search import find
from ccscale.cli.main import main

FIXTURE = Path(__file__).parent / "fixtures" / "v0_1.tar.xz"


@pytest.fixture
def answers(tmp_path, monkeypatch) -> dict[str, Any]:
    """The files, in the folder that we are in; what 0.1's own code made of them afterwards."""
    smallest.register()
    monkeypatch.chdir(tmp_path)
    with tarfile.open(FIXTURE) as archive:
        unpack(archive, tmp_path)
    answers: dict[str, Any] = json.loads(Path("answers.json").read_text())
    return answers


def test_shards(answers, capsys):
    assert main(["shards", "verify", "shards", "--workers", "1"]) == 0
    assert "all shards match the manifest" in capsys.readouterr().out


@pytest.mark.parametrize("step", [3, 5])
@pytest.mark.slow
def test_a_run_goes_on(answers, step):
    """The same batches and losses as 0.1 went on with, also from the checkpoint before the last."""
    if step == 3:
        Path("run/checkpoints/step-00000005/COMMIT.json").unlink()
    assert main(["train", "config.yaml", "train.zero=1", "train.max_steps=8"]) == 0
    steps = {line["step"]: line for line in read_lines(Path("run/metrics.jsonl")) if line["kind"] == "step"}
    assert [steps[number]["batch_digest"] for number, _, _ in answers["steps"]] == [
        digest for _, digest, _ in answers["steps"]
    ]
    assert [steps[number]["loss"] for number, _, _ in answers["steps"]] == pytest.approx(
        [loss for _, _, loss in answers["steps"]], rel=1e-6
    )


def test_a_run_is_evaluated_and_predicts(answers, capsys):
    before = pq.read_table("run/assignments.parquet")
    assert main(["evaluate", "run", "--device", "cpu", "--workers", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"] == [0, 48, 0]
    after = pq.read_table("run/assignments.parquet")
    assert after["key"].to_pylist() == before["key"].to_pylist()
    np.testing.assert_allclose(after["confidence"].to_numpy(), before["confidence"].to_numpy(), rtol=1e-5)
    assert main(["report", "run", "--device", "cpu"]) == 0


def test_parts_of_a_prediction_are_gone_on_with(answers, capsys):
    kept = Path("predicted/train-000000.000000000.parquet")
    written = pq.read_table(kept)
    Path("predicted/train-000001.000000000.parquet").unlink()
    line = "predict run --shards shards --out predicted/ --device cpu --workers 0"
    assert main(line.split()) == 0
    assert "continued after 2 of 3 parts that were already done" in capsys.readouterr().err
    assert len(pq.read_table("predicted/train-000001.000000000.parquet")) == 16
    assert any(pq.read_table(path).equals(written) for path in Path("predicted").glob("train-000000*"))


def test_an_exported_network_answers(answers):
    images = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
    clusters, confidence = ccscale.load("exported").predict(images)
    assert clusters.tolist() == answers["clusters"]
    assert confidence.tolist() == pytest.approx(answers["confidence"], rel=1e-6)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("run/run.json", "evaluate run"),
        ("run/run.json", "train config.yaml train.zero=1"),
        ("exported/config.json", "predict exported --shards shards --out x.csv"),
        ("shards/dataset.json", "shards verify shards"),
    ],
)
def test_what_a_later_release_wrote_is_refused_by_name(answers, file, line, capsys):
    content = json.loads(Path(file).read_text())
    part = content["ccscale"] if "shardlist" in content else content
    part["version"] = 2
    Path(file).write_text(json.dumps(content))
    assert main(line.split()) == 2
    said = f"error: {file} has version 2 and this ccscale reads version 1: upgrade ccscale\n"
    assert capsys.readouterr().err.endswith(said)


def test_a_checkpoint_of_a_later_release_is_passed_over(answers):
    marker = Path("run/checkpoints/step-00000005/COMMIT.json")
    marker.chmod(0o600)
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "version": 2}))
    found = find(Path("run"))
    assert (found.newest.step, len(found.passed_over)) == (3, 1)
    assert "has version 2 and this ccscale reads version 1: upgrade ccscale" in found.passed_over[0]
