"""What a report reads of a run's folder, and when it is measured anew."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import small_settings, write_config

from ccscale.cli import main
from ccscale.data.manifest import Manifest
from ccscale.data.reader import SampleReader
from ccscale.errors import InputError
from ccscale.report import inputs
from ccscale.report.inputs import gather
from ccscale.report.sprites import tiles_of

STEPS = 2


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """A run of two steps."""
    root = tmp_path_factory.mktemp("report")
    assert (
        main(["train", str(write_config(root, small_settings(shards, root / "run", train__max_steps=STEPS)))])
        == 0
    )
    return root / "run"


@pytest.fixture
def run(trained, tmp_path, shards, monkeypatch):
    """A copy of the run, and an evaluation that writes quickly what the real one does; it counts its calls."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    reader = SampleReader(Manifest.load(shards), ("train",))
    calls = []

    def evaluate(run, device, workers):
        calls.append(run)
        count = len(reader)
        table = {
            "key": pa.array([reader.key(i) for i in range(count)]),
            "cluster": pa.array([i % 4 if i else None for i in range(count)], pa.int32()),
            "confidence": pa.array([0.5 if i else None for i in range(count)], pa.float32()),
            "second": pa.array([(i + 1) % 4 if i else None for i in range(count)], pa.int32()),
            "second_confidence": pa.array([0.25 if i else None for i in range(count)], pa.float32()),
            "label": pa.array([reader[i].label if i % 2 else None for i in range(count)], pa.int32()),
        }
        pq.write_table(pa.table(table), folder / "assignments.parquet")
        np.savez(
            folder / "features.npz", rows=np.arange(count), features=np.ones((count, 8), dtype=np.float16)
        )

    monkeypatch.setattr(inputs, "evaluate_run", evaluate)
    return folder, calls


def age(path, seconds):
    before = path.stat().st_mtime
    os.utime(path, (before - seconds, before - seconds))


def test_what_is_read(run):
    folder, calls = run
    (folder / "evaluation.json").write_text(json.dumps({"step": STEPS, "information": 0.5}))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "step": 3, "lo')  # it is being written
    found, reader = gather(folder)
    assert len(calls) == 1
    assert found.name == f"{folder.parent.name}/run"
    assert dict(found.facts)["Checkpoint"] == "step 2"
    assert (found.clusters, found.classes) == (4, ("class0", "class1", "class2"))
    assert found.table.clusters[:6].tolist() == [-1, 1, 2, 3, 0, 1]
    assert found.table.second[:3].tolist() == [-1, 2, 3]
    assert found.table.confidence[:2].tolist() == [0, 0.5]
    assert found.table.labels[0] == -1
    assert found.table.labels[1] == reader[1].label
    assert len(reader) == len(found.table.keys) == len(found.points.rows) == 150
    assert [line["step"] for line in found.metrics if line["kind"] == "step"] == [1, 2]
    assert found.evaluation["information"] == 0.5
    tiles = tiles_of(reader)(np.array([3, 100]), 24)
    assert tiles.shape == (2, 24, 24, 3)
    assert (tiles[0] != tiles[1]).any()


def test_it_is_measured_only_where_that_is_needed(run):
    folder, calls = run
    gather(folder)
    gather(folder)
    assert len(calls) == 1
    for name in ("assignments.parquet", "features.npz"):
        age(folder / name, 3600)  # older than the checkpoint
        gather(folder)
        (folder / name).unlink()
        gather(folder)
    assert len(calls) == 5


def test_the_table_of_another_split_is_measured_anew(run):
    folder, calls = run
    gather(folder)
    table = pq.read_table(folder / "assignments.parquet")
    pq.write_table(table.slice(1), folder / "assignments.parquet")
    gather(folder)
    pq.write_table(table.take(list(range(149, -1, -1))), folder / "assignments.parquet")
    assert gather(folder)[0].table.keys.equals(table["key"].combine_chunks())
    assert len(calls) == 3


def test_figures_of_another_step_are_not_shown(run):
    folder, _ = run
    (folder / "evaluation.json").write_text(json.dumps({"step": 1, "information": 0.5}))
    assert gather(folder)[0].evaluation == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("assignments.parquet", b"PAR1", "assignments.parquet cannot be read"),
        ("features.npz", b"PK", "features.npz cannot be read"),
    ],
)
def test_damaged_files(run, name, content, message):
    folder, _ = run
    gather(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*delete it"):
        gather(folder)


def test_features_of_other_rows(run):
    folder, _ = run
    gather(folder)
    np.savez(folder / "features.npz", rows=np.array([150]), features=np.ones((1, 8)))
    with pytest.raises(InputError, match=r"does not belong to the assignments\.parquet beside it"):
        gather(folder)


def test_an_older_table_without_second_choices(run):
    folder, _ = run
    gather(folder)
    table = pq.read_table(folder / "assignments.parquet").drop_columns(["second", "second_confidence"])
    pq.write_table(table, folder / "assignments.parquet")
    found, _ = gather(folder)
    assert found.table.second is None
    assert found.table.second_confidence is None
