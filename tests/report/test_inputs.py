"""What a report reads of a run's folder, and when it is measured anew."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import small_settings, write_config

from ccscale.cli.main import main
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.draw.tiles import tiles_of
from ccscale.errors import InputError
from ccscale.evaluate.basis import KEY, Basis
from ccscale.evaluate.cluster_names import ClusterNames
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.report import inputs
from ccscale.report.inputs import read_inputs

STEPS = 2


@pytest.fixture
def evaluated(run, tmp_path, shards, monkeypatch):
    """A copy of the run, and an evaluation that writes quickly what the real one does; it counts its calls."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    reader = SampleReader(Manifest.load(shards), ("train",))
    calls = []

    def evaluate(run, device, workers, checkpoint, clusters):
        calls.append(run)
        count = len(reader)
        basis = basis_of(run).to_bytes()
        assert checkpoint == str(STEPS)
        table = {
            "key": pa.array([reader.key(i) for i in range(count)]),
            "cluster": pa.array([i % 4 if i else None for i in range(count)], pa.int32()),
            "confidence": pa.array([0.5 if i else None for i in range(count)], pa.float32()),
            "second": pa.array([(i + 1) % 4 if i else None for i in range(count)], pa.int32()),
            "second_confidence": pa.array([0.25 if i else None for i in range(count)], pa.float32()),
            "label": pa.array([reader[i].label if i % 2 else None for i in range(count)], pa.int32()),
        }
        made = pa.table(table).replace_schema_metadata({KEY: basis})
        pq.write_table(made, folder / "assignments.parquet")
        features = np.ones((count, 8), dtype=np.float16)
        write_features(folder, basis.decode(), np.arange(count), features)

    monkeypatch.setattr(inputs, "evaluate_run", evaluate)
    return folder, calls


def basis_of(run):
    config, checkpoint = run_and_checkpoint(run)
    return Basis.of(checkpoint, Manifest.load(config.data.shards), config.evaluated_splits)


def write_features(folder, basis, rows, features):
    np.savez(folder / "features.npz", rows=rows, features=features, basis=np.array(basis))


OTHERS = {
    "step": {"step": 1},
    "weights": {"weights": "0" * 64},
    "split": {"splits": ("val",)},
    "data": {"data": "0" * 64},
}


def test_what_is_read(evaluated):
    folder, calls = evaluated
    figures = {"basis": basis_of(folder).as_json(), "information": 0.5}
    (folder / "evaluation.json").write_text(json.dumps(figures))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "step": 3, "lo')  # it is being written
    found, reader = read_inputs(folder)
    assert len(calls) == 1
    assert found.name == f"{folder.parent.name}/run"
    assert dict(found.facts)["Checkpoint"] == "step 2"
    assert (found.clusters, found.classes) == (6, ("class0", "class1", "class2"))
    assert found.table.clusters[:6].tolist() == [-1, 1, 2, 3, 0, 1]
    assert found.table.second[:3].tolist() == [-1, 2, 3]
    assert found.table.confidence[:2].tolist() == [0, 0.5]
    assert found.table.labels[0] == -1
    assert found.table.labels[1] == reader[1].label
    assert len(reader) == len(found.table.keys) == len(found.points.rows) == 150
    assert [line["step"] for line in found.metrics if line["kind"] == "step"] == [1, 2]
    assert found.evaluation["information"] == 0.5
    assert found.called.names is None
    ClusterNames(found.basis).named(2, "cats").save(folder)
    assert read_inputs(folder)[0].called.names == (None, None, "cats", None, None, None)
    tiles = tiles_of(reader)(np.array([3, 100]), 24, lambda units=1: None)
    assert tiles.shape == (2, 24, 24, 3)
    assert (tiles[0] != tiles[1]).any()


def test_it_is_measured_only_where_that_is_needed(evaluated):
    folder, calls = evaluated
    read_inputs(folder)
    read_inputs(folder)
    assert len(calls) == 1
    for name in ("assignments.parquet", "features.npz"):
        os.utime(folder / name, (0, 0))  # times say nothing: it may have been copied
        read_inputs(folder)
    assert len(calls) == 1
    for name in ("assignments.parquet", "features.npz"):
        (folder / name).unlink()
        read_inputs(folder)
    assert len(calls) == 3


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_was_made_of_something_else_is_measured_anew(evaluated, other):
    """Of the same rows, and newer than the checkpoint."""
    folder, calls = evaluated
    read_inputs(folder)
    basis = replace(basis_of(folder), **other).to_bytes()
    table = pq.read_table(folder / "assignments.parquet")
    pq.write_table(table.replace_schema_metadata({KEY: basis}), folder / "assignments.parquet")
    read_inputs(folder)
    assert len(calls) == 2
    write_features(folder, basis.decode(), np.arange(150), np.zeros((150, 8), np.float16))
    assert read_inputs(folder)[0].points.features.any()
    assert len(calls) == 3


@pytest.mark.parametrize("other", [{}, *OTHERS.values()], ids=["nothing", *OTHERS])
def test_figures_of_something_else_are_not_shown(evaluated, other):
    folder, _ = evaluated
    basis = replace(basis_of(folder), **other).as_json() if other else None
    (folder / "evaluation.json").write_text(json.dumps({"step": STEPS, "basis": basis, "information": 0.5}))
    assert read_inputs(folder)[0].evaluation == {}


def test_an_evaluation_of_another_checkpoint(shards, tmp_path):
    """`evaluate --checkpoint 1` leaves its files; the report is of step 2 all the same."""
    settings = small_settings(
        shards, tmp_path / "run", train__max_steps=2, train__save_every=1, train__lr=0.1
    )
    assert main(["train", str(write_config(tmp_path, settings))]) == 0

    def features(which):
        command = ["evaluate", str(tmp_path / "run"), "--checkpoint", which, "--no-probes"]
        assert main([*command, "--device", "cpu", "--workers", "0"]) == 0
        return np.load(tmp_path / "run/features.npz")["features"]

    last, first = features("last"), features("1")
    assert (last != first).mean() > 0.1
    found, _ = read_inputs(tmp_path / "run", "cpu", 0)
    assert dict(found.facts)["Checkpoint"] == "step 2"
    assert found.evaluation["step"] == 2
    assert (found.points.features == last).mean() > 0.99


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("assignments.parquet", b"PAR1", "assignments.parquet cannot be read"),
        ("features.npz", b"PK", "features.npz cannot be read"),
    ],
)
def test_damaged_files(evaluated, name, content, message):
    folder, _ = evaluated
    read_inputs(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*delete it"):
        read_inputs(folder)


def test_features_of_other_rows(evaluated):
    folder, _ = evaluated
    read_inputs(folder)
    write_features(folder, basis_of(folder).to_bytes().decode(), np.array([150]), np.ones((1, 8)))
    with pytest.raises(InputError, match=r"features\.npz is damaged; delete it"):
        read_inputs(folder)


def test_an_older_table_without_second_choices(evaluated):
    folder, _ = evaluated
    read_inputs(folder)
    table = pq.read_table(folder / "assignments.parquet").drop_columns(["second", "second_confidence"])
    pq.write_table(table, folder / "assignments.parquet")
    found, _ = read_inputs(folder)
    assert found.table.second is None
    assert found.table.second_confidence is None
