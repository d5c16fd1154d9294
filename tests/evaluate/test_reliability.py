"""How sure a run is: kept by `evaluate`, used by `predict`, at any number of ranks, and by an exported network."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.ranks import run_ranks

from ccscale.cli.main import main
from ccscale.errors import InputError
from ccscale.evaluate import parts as parts_module
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.predict import PredictOptions, predict_run
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.reliability import FILE, Reliability

HERE = {"device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory) -> Path:
    """A run's folder that is written to."""
    return Path(shutil.copytree(run, tmp_path_factory.mktemp("sure") / "run"))


@pytest.fixture(scope="module")
def labels(folder, tmp_path_factory) -> Path:
    """Labels of every third image: what the manifest's are called here, and one of no image."""
    evaluate_run(folder, probe=False, **HERE)
    table = pq.read_table(folder / "assignments.parquet", columns=["key", "label"]).to_pylist()[::3]
    path = tmp_path_factory.mktemp("labels") / "few.csv"
    rows = "".join(f"{row['key']},kind {row['label'] % 2}\n" for row in table)
    path.write_text(f"key,class\n{rows}nobody,kind 0\n")
    return path


@pytest.fixture(scope="module")
def result(folder, labels) -> dict[str, Any]:
    found = evaluate_run(folder, probe=False, labels=labels, **HERE)
    assert found is not None
    return found


def predict(run: Path, shards: Path, out: Path, reject: str | None = None) -> dict[str, Any]:
    wanted = PredictOptions(str(out), reject=None if reject is None else Reject.parse(reject))
    found = predict_run(run, str(shards), wanted, **HERE)
    assert found is not None
    return found


def on_rank(rank: int, run: str, shards: str, out: str) -> None:
    parts_module.parts_of.__defaults__ = (20,)
    predict_run(run, shards, PredictOptions(out, reject=Reject(0.8)), **HERE)


def test_labels_are_measured_kept_and_named(folder, labels, result):
    assert result["given"]["images"] == 50
    assert result["given"]["classes"].keys() == {"kind 0", "kind 1"}
    assert "1 given label is of no image of the run: nobody" in result["notes"]
    assert result["trust"]["images"] == 100  # of the labels that the manifest has those that fitted nothing
    assert result["trust"]["accuracy"][0] == pytest.approx(result["acc"], abs=0.1)
    kept = Reliability.load(folder)
    assert kept is not None
    assert (kept.calibration.pairs, kept.calibration.labels) == (150, 50)
    assert list(kept.names.names) == result["names"]["name"]
    assert kept.is_of(result["basis"]["weights"], 0)
    again = evaluate_run(folder, probe=False, **HERE)  # by what was given before
    assert again["names"] == result["names"]
    assert Reliability.load(folder).digest == kept.digest
    other = evaluate_run(folder, splits=["train"], probe=False, **HERE)
    assert other["trust"]["ece_calibrated"] >= 0


def test_predictions_say_how_sure_and_leave_out(folder, shards, result, tmp_path):
    found = predict(folder, shards, tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names[2:5] == ["cluster", "name", "confidence"]
    kept = Reliability.load(folder)
    assert table["calibrated"].to_numpy() == pytest.approx(kept.calibration(table["confidence"].to_numpy()))
    assert "unassigned" not in found

    found = predict(folder, shards, tmp_path / "some.parquet", ".8")
    some = pq.read_table(tmp_path / "some.parquet")
    left = some["cluster"].to_numpy() < 0
    assert found["unassigned"] == left.sum() == 150 - found["images"]
    assert 15 < left.sum() <= 30  # the run's own images again: each is a neighbour of itself
    reasons = some["reason"].to_pylist()
    assert [reason is not None for reason in reasons] == left.tolist()
    assert reasons.count("too far") == found["too_far"] > 0
    doubtful = [reason for reason in reasons if reason not in (None, "too far")]
    assert doubtful
    assert all(reason.startswith("between ") for reason in doubtful)
    for name in ("confidence", "calibrated", "second"):
        assert some[name].equals(table[name])
    assert some.filter(~left)["cluster"].equals(table.filter(~left)["cluster"])

    least = float(np.median(table["calibrated"]))
    predict(folder, shards, tmp_path / "sure.parquet", f"confidence={least}")
    sure = pq.read_table(tmp_path / "sure.parquet").to_pylist()
    assert all(row["calibrated"] >= least for row in sure if row["cluster"] >= 0)
    assert {row["reason"] for row in sure if row["calibrated"] >= least} <= {None, "too far"}


@pytest.mark.dist
def test_the_same_on_two_ranks(folder, shards, result, tmp_path):
    predict(folder, shards, tmp_path / "one.parquet", ".8")
    run_ranks(2, on_rank, str(folder), str(shards), str(tmp_path / "two.parquet"))
    one, two = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert one["reason"].equals(two["reason"])
    assert one["cluster"].equals(two["cluster"])


def test_an_exported_network_knows_it_too(folder, shards, result, tmp_path):
    assert main(["export", str(folder), str(tmp_path / "out")]) == 0
    predict(folder, shards, tmp_path / "run.parquet", ".9")
    predict(tmp_path / "out", shards, tmp_path / "out.parquet", ".9")
    assert pq.read_table(tmp_path / "run.parquet").equals(pq.read_table(tmp_path / "out.parquet"))


def test_what_does_not_go(folder, labels, result, run, shards, tmp_path, refused):
    few = ["predict", str(run), "--shards", str(shards), "--out", str(tmp_path / "t.csv"), "--device", "cpu"]
    assert "run `ccscale evaluate` on the run first" in refused(*few, "--reject", ".9")
    assert "leave out --merged" in refused(*few, "--reject", ".9", "--merged", "2")
    for wrong in ("2", "0", "confidence=1", "sure"):
        with pytest.raises(ValueError, match="neither a fraction of images to assign"):
            Reject.parse(wrong)
    with pytest.raises(InputError, match="leave out --shards and --split"):
        evaluate_run(folder, splits=["train"], labels=labels, **HERE)
    (tmp_path / "others.csv").write_text("key,class\nnobody,cat\n")
    with pytest.raises(InputError, match="none of 1 label"):
        evaluate_run(folder, probe=False, labels=tmp_path / "others.csv", **HERE)
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    (copy / FILE).write_bytes(b"torn")
    with pytest.raises(InputError, match="`ccscale evaluate` recreates it"):
        predict(copy, shards, tmp_path / "t.csv")


def test_a_prediction_goes_on_only_with_what_is_known_now(folder, shards, result, tmp_path):
    predict(folder, shards, f"{tmp_path}/parts/", ".9")
    with pytest.raises(InputError, match=r"reject was '0\.9' and is now '0\.8'"):
        predict(folder, shards, f"{tmp_path}/parts/", ".8")
    with pytest.raises(InputError, match=r"reject was '0\.9' and is now None"):
        predict(folder, shards, f"{tmp_path}/parts/")


def test_the_table_of_scores_tells_it(folder, result, capsys):
    assert main(["evaluate", str(folder), "--no-probes", "--workers", "0", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "of 2 classes given" in out
    assert "expected calibration error" in out
    assert json.loads((folder / "evaluation.json").read_text())["trust"]["coverage"][0] == 1
