"""Images in a parquet file's cells become shards as files do, each decoded once."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness.listings import converted, encoded

from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources import cells
from ccscale.data.sources.cells import Cell
from ccscale.data.sources.table import table

NUMBER = 50


@pytest.fixture
def images() -> list[bytes]:
    return [encoded(number) for number in range(NUMBER)]


def hugging_face(path: Path, images: list[bytes | None], paths: list[str | None], **columns) -> Path:
    rows = [{"bytes": data, "path": place} for data, place in zip(images, paths, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), **columns}), path, row_group_size=20)
    return path


@pytest.mark.parametrize("options", [{}, {"dedup": True}, {"workers": 2, "shard_samples": 9}])
def test_a_data_set_of_hugging_face(tmp_path, images, options):
    labels = [number % 3 for number in range(NUMBER)]
    paths = [f"{number}.jpg" for number in range(NUMBER)]
    path = hugging_face(tmp_path / "t.parquet", images, paths, label=labels)
    manifest, found = converted(table(path), tmp_path / "out", **options)
    assert {key: (s.data, s.label, s.origin) for key, s in found.items()} == {
        str(number): (images[number], number % 3, f"{number}.jpg") for number in range(NUMBER)
    }
    assert manifest.classes == ("0", "1", "2")
    assert not (tmp_path / "out/.ccscale-making").exists()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes(tmp_path, images, kind):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": pa.array(images, kind), "id": range(NUMBER)}), path)
    _, found = converted(table(path), tmp_path / "out")
    assert {key: (s.data, s.origin) for key, s in found.items()} == {
        f"row-{number:09d}": (images[number], f"t.parquet[{number}]") for number in range(NUMBER)
    }
    _, found = converted(table(path, key_column="id"), tmp_path / "named")
    assert {key: s.data for key, s in found.items()} == {str(i): data for i, data in enumerate(images)}


def test_cells_that_hold_no_image(tmp_path):
    (tmp_path / "beside.jpg").write_bytes(encoded(9))
    path = hugging_face(
        tmp_path / "t.parquet",
        [encoded(0), None, None, b"no image", b"", encoded(5)],
        ["same.jpg", "beside.jpg", None, "3.jpg", "gone/4.jpg", "same.jpg"],
    )
    _, found = converted(table(path), tmp_path / "out")
    assert {key: s.data for key, s in found.items()} == {
        "same-row-000000000": encoded(0),
        "beside": encoded(9),
        "same-row-000000005": encoded(5),
    }
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rejected = {line["key"]: line["reason"].partition(" (")[0] for line in csv.DictReader(file)}
    assert rejected == {
        "row-000000002": "the file cannot be read: its cell is empty",
        "3": "it is not an image in a known format",
        "gone/4": "it has no bytes",
    }


def test_each_row_group_is_decoded_once(tmp_path, images, monkeypatch):
    path = hugging_face(tmp_path / "t.parquet", images, [f"{number}.jpg" for number in range(NUMBER)])
    begun = []
    real = cells._cells
    monkeypatch.setattr(cells, "_cells", lambda *place: begun.append(place[2]) or real(*place))
    for options in ({}, {"dedup": True}, {"resize": 4}):
        begun.clear()
        out = tmp_path / f"out{len(options)}{'resize' in options}"
        make_shards(table(path), out, workers=1, progress=False, shard_bytes=30_000, **options)
        assert begun == [0, 1, 2]


def test_a_cell_by_itself(tmp_path, images):
    path = hugging_face(tmp_path / "t.parquet", images, [None] * NUMBER)
    where = list(cells.places(str(path)))
    for row in (3, 40, 2, 2, 49, 0):
        assert Cell(str(path), "image", *where[row]).read() == images[row]
    path.write_bytes(path.read_bytes()[:-100])
    cells._cursor.place = None
    with pytest.raises(OSError, match=r"Errno") as error:
        Cell(str(path), "image", 0, 0).read()
    assert error.value.strerror
