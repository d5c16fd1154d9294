"""Assignments as tables: rows in the order of the samples, nulls where nothing is known, whole or not at all."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccscale.errors import InputError
from ccscale.evaluate.assign import Assignments
from ccscale.evaluate.table import check_table_path, read_table, write_table

KEYS = ("b", "a", 'with "quotes", and comma', "größe")
FOUND = Assignments(
    KEYS,
    np.array([3, -1, 0, 70_000]),
    np.array([0.25, 0, 1, 1 / 3], dtype=np.float32),
    np.array([-1, 1, 0, 2]),
    None,
    ("a: it is no image",),
)
COLUMNS = {
    "key": list(KEYS),
    "cluster": [3, None, 0, 70_000],
    "confidence": [0.25, None, 1.0, float(np.float32(1 / 3))],
    "label": [None, 1, 0, 2],
}


@pytest.mark.parametrize("labels", [True, False])
def test_parquet(tmp_path, labels):
    write_table(tmp_path / "t.parquet", FOUND, labels=labels)
    table = pq.read_table(tmp_path / "t.parquet")
    expected = COLUMNS if labels else {name: COLUMNS[name] for name in ("key", "cluster", "confidence")}
    assert table.to_pydict() == expected
    types = [pa.string(), pa.int32(), pa.float32(), pa.int32()][: len(expected)]
    assert table.schema.types == types


@pytest.mark.parametrize("labels", [True, False])
def test_csv(tmp_path, labels):
    write_table(tmp_path / "t.csv", FOUND, labels=labels)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["key", "cluster", "confidence", "label"][: 4 if labels else 3]
    assert [row[0] for row in rows] == list(KEYS)
    assert [row[1] for row in rows] == ["3", "", "0", "70000"]
    assert [row[2] for row in rows][:3] == ["0.25", "", "1"]
    assert np.float32(rows[3][2]) == np.float32(1 / 3)
    if labels:
        assert [row[3] for row in rows] == ["", "1", "0", "2"]


def test_reads_back_what_was_written(tmp_path):
    write_table(tmp_path / "t.parquet", FOUND, labels=True)
    found = read_table(tmp_path / "t.parquet")
    assert found.keys == FOUND.keys
    for name in ("clusters", "confidence", "labels"):
        before, after = getattr(FOUND, name), getattr(found, name)
        assert after.dtype == before.dtype
        assert after.tolist() == before.tolist()


def test_no_samples(tmp_path):
    nothing = Assignments((), np.empty(0, int), np.empty(0, np.float32), np.empty(0, int), None, ())
    write_table(tmp_path / "t.parquet", nothing, labels=True)
    assert read_table(tmp_path / "t.parquet").keys == ()
    write_table(tmp_path / "t.csv", nothing)
    assert (tmp_path / "t.csv").read_text() == '"key","cluster","confidence"\n'


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_cut_off_while_writing(tmp_path, name, monkeypatch):
    """The table that was there before stays, and nothing half-written beside it."""
    path: Path = tmp_path / name
    path.write_text("before")

    def fail(table, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(pa.parquet, "write_table", fail)
    monkeypatch.setattr(pa.csv, "write_csv", fail)
    with pytest.raises(OSError, match="No space left"):
        write_table(path, FOUND)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["t.txt", "t", "t.csv.gz", "parquet"])
def test_unknown_ending(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} must end in .parquet or .csv"):
        check_table_path(tmp_path / name)


def test_missing_folder(tmp_path):
    check_table_path(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"there is no folder .*/none for t.csv; make it first"):
        check_table_path(tmp_path / "none" / "t.csv")
