"""Tables name images, labels and splits by rows; what has no clear reading is refused by its row."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness.listings import converted, encoded, listing
from harness.servers import ShardServer

from ccscale.data.remote import downloads as web
from ccscale.data.sources.table import table
from ccscale.errors import InputError


def write(path: Path, columns: dict[str, list]) -> Path:
    """Write a table in the format of its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def images(tmp_path) -> dict[str, bytes]:
    """Write images into in/; return path in there to bytes."""
    made = {
        name: encoded(seed) for seed, name in enumerate(["a/1.jpg", "b/2.x.jpeg", "3.png", "über, 4.jpg"])
    }
    for name, data in made.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return made


@pytest.mark.parametrize("format", ["parquet", "csv", "tsv"])
def test_round_trip(tmp_path, images, format):
    labels = ["dog", "cat", None, "dog"]
    path = write(
        tmp_path / f"in/pets.{format}", {"note": [1, 2, 3, 4], "path": list(images), "label": labels}
    )
    manifest, found = converted(table(path), tmp_path / "out")
    assert (manifest.name, manifest.classes) == ("pets", ("cat", "dog"))
    assert {key: (s.split, s.label, s.origin, s.data) for key, s in found.items()} == {
        "a/1": ("train", 1, "a/1.jpg", images["a/1.jpg"]),
        "b/2_x": ("train", 0, "b/2.x.jpeg", images["b/2.x.jpeg"]),
        "3": ("train", None, "3.png", images["3.png"]),
        "über, 4": ("train", 1, "über, 4.jpg", images["über, 4.jpg"]),
    }


def test_urls_and_files_that_cannot_be_read(tmp_path, images, monkeypatch):
    monkeypatch.setattr(web, "PAUSE_SECONDS", 0.01)
    with ShardServer(tmp_path / "in") as server:
        server.fail("3.png", "503", 2)
        server.fail("broken", "503", 100)
        rows = [
            f"{server.url}/a/1.jpg",
            f"{server.url}/3.png",
            f"{server.url}/broken",
            f"{server.url}/gone",
            "no.jpg",
        ]
        path = write(tmp_path / "in/t.csv", {"url": rows, "class": ["x", "y", "x", "x", "x"]})
        manifest, found = converted(table(path), tmp_path / "out")
    assert {key: (s.label, s.origin, s.data) for key, s in found.items()} == {
        "row-000000000": (0, rows[0], images["a/1.jpg"]),
        "row-000000001": (1, rows[1], images["3.png"]),
    }
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rejected = {line["key"]: line["reason"] for line in csv.DictReader(file)}
    assert rejected == {
        "no": "the file cannot be read: No such file or directory",
        "row-000000002": "the file cannot be read: the server answers 503",
        "row-000000003": "the file cannot be read: there is no such file",
    }
    assert manifest.made_by["rejected"] == 3


def test_splits(tmp_path):
    columns = {"file": ["1.jpg", "2.jpg", "3.jpg"], "label": [7, 0, 7], "split": ["val", "train", "val"]}
    path = write(tmp_path / "t.csv", columns)
    assert listing(table(path)) == {"train": [("2", 0)], "val": [("1", 7), ("3", 7)]}
    assert list(table(path).splits) == ["train", "val"]
    assert listing(table(path, split="all")) == {"all": [("1", 7), ("2", 0), ("3", 7)]}
    assert table(path).classes == tuple("01234567")
    assert listing(table(path, labels=False))["train"] == [("2", None)]


def test_columns(tmp_path):
    path = write(
        tmp_path / "t.parquet",
        {"url": ["a.jpg"], "image": ["b.jpg"], "where": ["c.jpg"], "class": ["x"], "breed": ["y"]},
    )
    source = table(path)
    assert (listing(source), source.classes) == ({"train": [("b", 0)]}, ("x",))
    source = table(path, path_column="where", label_column="breed")
    assert (listing(source), source.classes) == ({"train": [("c", 0)]}, ("y",))


@pytest.mark.parametrize(
    "names", [("Path", "Label", "SPLIT"), (" path", "label ", "Split"), ("URL", "Class", " split")]
)
def test_columns_are_found_whatever_their_case(tmp_path, names):
    values = (["1.jpg", "2.jpg"], ["x", "y"], ["val", "train"])
    path = write(tmp_path / "t.csv", dict(zip(names, values, strict=True)))
    assert listing(table(path)) == {"train": [("2", 1)], "val": [("1", 0)]}


def test_the_exact_name_of_a_column_counts_more(tmp_path):
    path = write(tmp_path / "t.csv", {"path": ["1.jpg"], "Label": ["x"], "label": ["y"]})
    assert table(path).classes == ("y",)
    path = write(tmp_path / "t.csv", {"path": ["1.jpg"], "Label": ["x"], " label": ["y"]})
    with pytest.raises(InputError, match="has the columns 'Label' and ' label': rename all but one"):
        table(path)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_keys_of_a_column_are_kept_as_they_are(tmp_path, images, format):
    columns = {"path": list(images), "id": [7, 5, 10, 2], "name": ["b/1", "é 1%", "c", "a,b"]}
    path = write(tmp_path / f"in/t.{format}", columns)
    _, found = converted(table(path, key_column="name"), tmp_path / "out")
    assert {key: sample.origin for key, sample in found.items()} == dict(
        zip(columns["name"], images, strict=True)
    )
    assert [key for key, _ in listing(table(path, key_column="id"))["train"]] == ["7", "5", "10", "2"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", ""], r"row 1 \(from 0\) has in the column id no key: change it"),
        (["a", "b.c"], "row 1 .*the key 'b.c', whose dot would end the sample's name"),
        (["a", "b", "a"], "row 2 .*the key 'a', as row 0 has"),
        (["/a"], "the key '/a', which cannot name a file"),
        (["a//b"], "the key 'a//b', which cannot name a file"),
        (["a\nb"], "which cannot name a file"),
    ],
)
def test_keys_that_cannot_be_are_refused(tmp_path, keys, message):
    path = write(tmp_path / "t.csv", {"path": [f"{i}.jpg" for i in range(len(keys))], "id": keys})
    with pytest.raises(InputError, match=message):
        table(path, key_column="id")
    with pytest.raises(InputError, match=r"--key-column: .* no column 'ids'; did you mean 'id'"):
        table(path, key_column="ids")


def test_labels_have_the_names_that_hugging_face_notes(tmp_path):
    notes = {"info": {"features": {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}}}
    rows = pa.table({"path": ["1.jpg", "2.jpg"], "label": [1, 0]})
    for text, classes in (
        (json.dumps(notes), ("cat", "dog", "eel")),
        (json.dumps(notes).replace("dog", "cat"), ("0", "1")),
        (json.dumps(notes).replace("names", "x"), ("0", "1")),
        ("[", ("0", "1")),
    ):
        pq.write_table(rows.replace_schema_metadata({"huggingface": text}), tmp_path / "t.parquet")
        assert table(tmp_path / "t.parquet").classes == classes


INTS = [2, None, 0]


@pytest.mark.parametrize(
    ("name", "labels", "expected", "classes"),
    [
        ("t.csv", ["2", "", "0"], INTS, ("0", "1", "2")),
        ("t.csv", ["2.0", "", "0.0"], INTS, ("0", "1", "2")),  # as pandas writes integers beside empty cells
        ("t.csv", ["10", "9", "x"], [0, 1, 2], ("10", "9", "x")),
        ("t.csv", ["01", "2", "01"], [0, 1, 0], ("01", "2")),
        ("t.csv", ["NA", "null", "nan"], [None] * 3, ()),
        ("t.csv", ["0", "-1", " 2 "], [0, None, 2], ("0", "1", "2")),
        ("t.csv", [" cat", "cat ", "Cat"], [1, 1, 0], ("Cat", "cat")),
        ("t.csv", ["2020-01-02", "true", ""], [0, 1, None], ("2020-01-02", "true")),
        ("t.csv", ["", "", ""], [None] * 3, ()),
        ("t.parquet", INTS, INTS, ("0", "1", "2")),
        ("t.parquet", [2.0, float("nan"), 0.0], INTS, ("0", "1", "2")),
        ("t.parquet", ["2", "0", None], [2, 0, None], ("0", "1", "2")),
        ("t.parquet", [True, False, None], [1, 0, None], ("False", "True")),
        ("t.parquet", [2, -1, 0], INTS, ("0", "1", "2")),
        ("t.parquet", pa.array([2, -1, 0], pa.float16()), INTS, ("0", "1", "2")),
        ("t.parquet", pa.array([2, None, 0]).cast(pa.decimal128(20, 0)), INTS, ("0", "1", "2")),
        ("t.parquet", pa.array([2, None, 0]).dictionary_encode(), INTS, ("0", "1", "2")),
        ("t.parquet", ["b", "", "a"], [1, None, 0], ("a", "b")),
        ("t.parquet", pa.array(["b", None, "a"]).dictionary_encode(), [1, None, 0], ("a", "b")),
        ("t.parquet", pa.array(["b", None, "a"], pa.large_string()), [1, None, 0], ("a", "b")),
        ("t.parquet", pa.array([2, None, 0], pa.uint8()), INTS, ("0", "1", "2")),
        ("t.parquet", pa.nulls(3), [None] * 3, ()),
    ],
)
def test_labels(tmp_path, name, labels, expected, classes):
    source = table(write(tmp_path / name, {"path": ["1.jpg", "2.jpg", "3.jpg"], "label": labels}))
    assert [label for _, label in listing(source)["train"]] == expected
    assert source.classes == classes


def test_keys_are_safe_and_unique(tmp_path):
    inside = f"{tmp_path}/in/x/5.jpg"
    paths = ["../up.jpg", "/abs/a.jpg", inside, "./x//6.jpg", "c.jpg", "c.png", "c", "c-row-000000004"]
    paths += ["new\nline.jpg", ".hidden", "https://h/a.jpg"]
    source = table(write(tmp_path / "in/t.parquet", {"path": paths}))
    assert [key for key, _ in listing(source)["train"]] == [
        "up",
        "abs/a",
        "x/5",
        "x/6",
        "c-row-000000004_",
        "c-row-000000005",
        "c-row-000000006",
        "c-row-000000004",
        "new_line",
        "_hidden",
        "row-000000010",
    ]
    files = [item.content.path for item in source.splits["train"]]
    assert files[:4] == [f"{tmp_path}/up.jpg", "/abs/a.jpg", inside, f"{tmp_path}/in/x/6.jpg"]


def test_csv_oddities(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffpath,label\r\n"a,b\n.jpg",x\r\n\r\nc.jpg,"say ""hi"""\r\n'.encode())
    source = table(path)
    assert [item.origin for item in source.splits["train"]] == ["a,b\n.jpg", "c.jpg"]
    assert source.classes == ('say "hi"', "x")


def test_only_the_needed_columns_are_read(tmp_path):
    path = write(tmp_path / "t.parquet", {"path": ["1.jpg"] * 3, "blob": ["x" * 5000] * 3})
    start = pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 20] = bytes(20)  # reading this column would fail
    path.write_bytes(data)
    with pytest.raises((pa.ArrowException, OSError)):
        pq.read_table(path)
    assert len(table(path).splits["train"]) == 3


def test_a_table_does_not_change_and_may_be_a_link(tmp_path, images):
    path = write(tmp_path / "store/t.csv", {"path": list(images)})
    before = path.read_bytes()
    (tmp_path / "in/link.csv").symlink_to(path)
    _, found = converted(table(tmp_path / "in/link.csv"), tmp_path / "out")
    assert len(found) == 4  # relative to the link's folder
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"path": ["1.jpg", ""]},
            r"row 1 \(from 0\) has no path in the column path: fill it in, or drop the row",
        ),
        ({"path": ["1.jpg", None]}, r"row 1 \(from 0\) has no path"),
        ({"path": []}, "has no rows"),
        (
            {"paths": ["1.jpg"]},
            r"has no column path, file, filename, image or url, only paths: choose .*--path-column",
        ),
        (
            {"path": ["ok.jpg", "pipe:cat x"]},
            r"row 1 \(from 0\) has 'pipe:cat x', which is neither a path nor a URL",
        ),
        ({"path": ["ftp://h/1.jpg"]}, r"row 0 \(from 0\) has 'ftp://h/1\.jpg'"),
        ({"path": ["file:///etc/passwd"]}, r"row 0 .*'file:///etc/passwd'"),
        ({"path": ["simplecache::https://h/1.jpg"]}, "row 0 .*'simplecache::https"),
        ({"path": ["https://h/1.zip::https://h/2"]}, "row 0 .* drop the row"),
        ({"path": ["zip://1.jpg::a.zip"]}, "row 0 .*neither a path nor a URL of http, https, s3, gs"),
        (
            {"path": ["1.jpg", "2.jpg"], "label": [0, -2]},
            r"row 1 \(from 0\) has in the column label the label '-2' is not from 0.*leave it empty",
        ),
        ({"path": ["1.jpg"], "label": [99_999_999]}, "row 0 .* the label '99999999' is not from 0"),
        (
            {"path": ["1.jpg"], "split": [""]},
            r"row 0 \(from 0\): the split '' cannot be used in names of shards",
        ),
        (
            {"path": ["1.jpg", "2.jpg"], "split": ["a", "../b"]},
            r"row 1 \(from 0\): the split '\.\./b' cannot be used",
        ),
    ],
)
@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_bad_rows_are_refused_in_a_sentence(tmp_path, columns, message, format):
    with pytest.raises(InputError, match=message):
        table(write(tmp_path / f"t.{format}", columns))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": [1, 2]}, "the column path contains int64, not text: choose another column, or convert it"),
        ({"image": [{"array": [1], "path": "1.jpg"}]}, "the column image contains struct<.*, not text"),
        ({"path": ["1.jpg"], "label": [[0]]}, r"row 0 .* label '\[0\]' is neither a text nor a number"),
        ({"path": ["1.jpg", "2.jpg"], "label": [1, 0.5]}, "row 1 .* the label '0.5' is not an integer"),
        ({"path": ["a\0b.jpg"]}, "row 0 .*neither a path nor"),
    ],
)
def test_bad_types_are_refused_in_a_sentence(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        table(write(tmp_path / "t.parquet", columns))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.xlsx", b"", r"t\.xlsx is not a \.parquet, \.csv or \.tsv file: convert it"),
        ("t.csv", b"", r"t\.csv cannot be read as a table \(.+\): check the file"),
        ("t.csv", b"path,label\na.jpg\n", r"cannot be read as a table \(.*Expected 2 columns"),
        ("t.csv", b"path,path\na,b\n", "has two columns 'path': rename one"),
        ("t.csv", b"path\n\xff\xfe.jpg\n", "cannot be read as a table .*UTF8"),
        ("t.parquet", b"PAR1 no parquet", r"t\.parquet cannot be read as a table"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        table(tmp_path / name)


def test_bad_options_are_refused(tmp_path):
    path = write(tmp_path / "t.csv", {"path": ["1.jpg"], "breed": ["x"]})
    with pytest.raises(
        InputError, match=r"--path-column: .*t\.csv has no column 'paths'; did you mean 'path'"
    ):
        table(path, path_column="paths")
    with pytest.raises(InputError, match=r"--label-column: .* has no column 'zzz'; it has path, breed"):
        table(path, label_column="zzz")
    with pytest.raises(InputError, match="--split 'a/b' cannot be used in names of shards"):
        table(path, split="a/b")
    with pytest.raises(InputError, match=r"there is no file .*gone\.csv; SOURCE must be a table"):
        table(tmp_path / "gone.csv")
