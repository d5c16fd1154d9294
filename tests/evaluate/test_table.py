"""Assignments as tables: rows in the order of the samples, nulls where nothing is known, whole or not at all."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ccscale.data.whole_images import WholeBatch
from ccscale.errors import InputError
from ccscale.evaluate import table as module
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.table import check_table_path, read_table, to_table, write_table
from ccscale.model.network import Outputs

KEYS = ("b", "a", 'with "quotes", and comma', "größe")
FOUND = Assigned(
    WholeBatch(
        torch.zeros(4, 1, 1, 3, dtype=torch.uint8),
        np.arange(4),
        KEYS,
        np.array([-1, 1, 0, 2]),
        np.array([False, True, False, False]),
        ("a: it is no image",),
        ("b.jpg", None, "https://host/a.png?x=1", "größe.webp"),
    ),
    Outputs(torch.arange(8.0).view(4, 2), torch.ones(4, 3), torch.zeros(4, 9)),
    np.array([3, -1, 0, 70_000]),
    np.array([0.25, 0, 1, 1 / 3], dtype=np.float32),
    np.array([0, -1, 3, 1]),
    np.array([0.125, 0, 0, 0.25], dtype=np.float32),
)
COLUMNS = {
    "key": list(KEYS),
    "origin": ["b.jpg", None, "https://host/a.png?x=1", "größe.webp"],
    "cluster": [3, None, 0, 70_000],
    "confidence": [0.25, None, 1.0, float(np.float32(1 / 3))],
    "second": [0, None, 3, 1],
    "second_confidence": [0.125, None, 0.0, 0.25],
    "label": [None, 1, 0, 2],
}
PLAIN = [name for name in COLUMNS if name != "label"]


@pytest.mark.parametrize("labels", [True, False])
def test_parquet(tmp_path, labels):
    write_table(tmp_path / "t.parquet", [to_table(FOUND, labels)])
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.to_pydict() == (COLUMNS if labels else {name: COLUMNS[name] for name in PLAIN})
    types = [pa.string(), pa.string(), pa.int32(), pa.float32(), pa.int32(), pa.float32(), pa.int32()]
    assert table.schema.types == types[: 7 if labels else 6]


@pytest.mark.parametrize(
    ("features", "expected"),
    [("backbone", [[0, 1], None, [4, 5], [6, 7]]), ("instance", [[1, 1, 1], None, [1, 1, 1], [1, 1, 1]])],
)
def test_features(tmp_path, features, expected):
    write_table(tmp_path / "t.parquet", [to_table(FOUND, features=features)])
    assert pq.read_table(tmp_path / "t.parquet")["features"].to_pylist() == expected


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    keys = ("=1+1", "@sum", "-7", "a=b")
    write_table(tmp_path / "t.csv", [to_table(replace(FOUND, batch=replace(FOUND.batch, keys=keys)))])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["key", "'=1+1", "'@sum", "-7", "a=b"]
    write_table(tmp_path / "t.parquet", [to_table(replace(FOUND, batch=replace(FOUND.batch, keys=keys)))])
    assert pq.read_table(tmp_path / "t.parquet")["key"].to_pylist() == list(keys)


@pytest.mark.parametrize("labels", [True, False])
def test_csv(tmp_path, labels):
    write_table(tmp_path / "t.csv", [to_table(FOUND, labels)] * 2)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == list(COLUMNS)[: 7 if labels else 6]
    assert len(rows) == 8
    assert [row[0] for row in rows] == list(KEYS) * 2
    assert [row[1] for row in rows[:4]] == ["b.jpg", "", "https://host/a.png?x=1", "größe.webp"]
    assert [row[2] for row in rows[:4]] == ["3", "", "0", "70000"]
    assert [row[3] for row in rows[:3]] == ["0.25", "", "1"]
    assert np.float32(rows[3][3]) == np.float32(1 / 3)
    if labels:
        assert [row[6] for row in rows[:4]] == ["", "1", "0", "2"]


def test_reads_back_what_was_written(tmp_path):
    write_table(tmp_path / "t.parquet", [to_table(FOUND, labels=True)])
    found = read_table(tmp_path / "t.parquet")
    assert found.keys.to_pylist() == list(KEYS)
    for values, expected in (
        (found.clusters, FOUND.clusters),
        (found.confidence, FOUND.confidence),
        (found.labels, FOUND.batch.labels),
    ):
        assert values.dtype == expected.dtype
        assert values.tolist() == expected.tolist()


@pytest.mark.parametrize(("rows", "size"), [(1, 10**9), (10, 10**9), (10**9, 1), (10**9, 10**9)])
def test_many_tables_are_written_in_groups(tmp_path, monkeypatch, rows, size):
    monkeypatch.setattr(module, "GROUP_ROWS", rows)
    monkeypatch.setattr(module, "GROUP_BYTES", size)
    write_table(tmp_path / "t.parquet", (to_table(FOUND) for _ in range(7)))
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.read()["key"].to_pylist() == list(KEYS) * 7
    expected = 7 if rows == 1 or size == 1 else 3 if rows == 10 else 1
    assert file.num_row_groups == expected


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_cut_off_while_writing(tmp_path, name):
    """The table that was there before stays, and nothing half-written beside it."""
    path: Path = tmp_path / name
    path.write_text("before")

    def tables():
        yield to_table(FOUND)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_table(path, tables())
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["t.txt", "t", "t.csv.gz", "parquet"])
def test_unknown_ending(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} must end in .parquet or .csv"):
        check_table_path(tmp_path / name)


def test_missing_folder(tmp_path):
    check_table_path(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"there is no folder .*/none for t.csv; create it first"):
        check_table_path(tmp_path / "none" / "t.csv")
