"""The answers are those of ``ccscale predict``, of a run and of an exported network; and what makes them new."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ccscale.cli.main import main
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.errors import InputError
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.naming import NameChanges, name_run
from ccscale.evaluate.predict import PredictOptions, predict_run
from ccscale.evaluate.reject import Reject
from ccscale.serve.source import ClusterSource


@pytest.fixture(scope="module")
def evaluated(run, tmp_path_factory) -> Path:
    copy = Path(shutil.copytree(run, tmp_path_factory.mktemp("evaluated") / "run"))
    evaluate_run(copy, device="cpu", workers=0)
    name_run(copy, NameChanges(names={0: "cats", 1: "dogs", 2: "eels"}))
    return copy


def test_answers_are_those_of_predict(evaluated, shards, manifest, tmp_path):
    main(["export", str(evaluated), str(tmp_path / "exported")])
    reader = SampleReader(manifest, ["train"])
    for folder in (evaluated, tmp_path / "exported"):
        out = tmp_path / f"{folder.name}.parquet"
        reject = Reject(coverage=0.7)
        predict_run(folder, str(shards), PredictOptions(str(out), reject=reject), device="cpu", workers=0)
        rows = pq.read_table(out).to_pylist()
        served = ClusterSource(folder, "cpu", reject=reject).open()
        assert (served.version, served.clusters, served.size) == ("step-00000002", 6, 16)
        images = np.stack([whole_image(reader[i].data, 16, served.scaled_decode) for i in range(len(reader))])
        answers = [*served.answer(images[:100]), *served.answer(images[100:])]
        assert [(one.id, one.reason) for one in answers] == [(row["cluster"], row["reason"]) for row in rows]
        assert {one.reason is None for one in answers} == {True, False}
        assert [one.name for one in answers] == [row["name"] for row in rows]
        assert len({one.name for one in answers}) > 1
        for name in ("confidence", "calibrated"):
            told = [getattr(one, name) for one in answers]
            assert np.allclose(told, [row[name] for row in rows], atol=1e-6)


def test_what_is_new_is_seen(evaluated, run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    source = ClusterSource(copy, "cpu")
    before = source.state()
    assert source.state() == before
    (copy / "metrics.jsonl").write_text("")
    assert source.state() == before
    shutil.copy(evaluated / "sureness.npz", copy)
    assert source.state() != before
    for file in ("names.json", "config.json", "model.safetensors"):  # the latter two are an export's
        before = source.state()
        (copy / file).write_text("{}")
        assert source.state() != before, file
    evaluated_state = source.state()
    newest = copy / "checkpoints" / "step-00000003"
    shutil.copytree(next((copy / "checkpoints").glob("step-*")), newest)
    assert source.state() != evaluated_state
    for marker in newest.glob("*"):  # one that is not committed is none
        if marker.is_file():
            os.unlink(marker)
    assert source.state() == evaluated_state


def test_nothing_tells_what_to_reject(run):
    with pytest.raises(InputError, match="--reject compares with the run's own images"):
        ClusterSource(run, "cpu", reject=Reject(coverage=0.9)).open()
