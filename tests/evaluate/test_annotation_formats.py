"""Sorted images as COCO, Label Studio, FiftyOne and datasets read them: by these themselves, if they are there."""

import io
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import make_images
from PIL import Image

from ccscale.cli.main import main
from ccscale.evaluate import annotation_formats
from ccscale.evaluate.annotation_formats import FORMATS, SortedImages, in_order
from ccscale.evaluate.sorting import ImagesToSort, sort_run

CATS = 'big "cats" & ü'
ROWS = [
    {"key": "a", "cluster": 3, "name": CATS, "confidence": 0.5, "calibrated": 0.75, "reason": None},
    {"key": "turned", "cluster": 4, "name": CATS, "confidence": 1.0, "calibrated": 1.0, "reason": None},
    {"key": "c", "cluster": 10, "name": None, "confidence": 0.25, "calibrated": None, "reason": None},
    {"key": "bad", "cluster": None, "name": None, "confidence": None, "calibrated": None, "reason": None},
    {"key": "far", "cluster": -1, "name": None, "confidence": 0.5, "calibrated": 0.1, "reason": "too far"},
]
SURE = {"a": 0.75, "turned": 1.0, "c": 0.25}
CLASSES = ["10", CATS]
CLASS = {"a": CATS, "turned": CATS, "c": "10", "far": None}


@pytest.fixture
def given(tmp_path: Path) -> SortedImages:
    """Five images, in two tables; one cannot be read."""
    exif = Image.Exif()
    exif[0x112] = 6
    tables = []
    for number, row in enumerate(ROWS):
        path = tmp_path / "out" / "ü 1" / f"{row['key']}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"exif": exif} if row["key"] == "turned" else {}
        Image.new("RGB", (40, 30), (50 * number, 0, 0)).save(path, **options)
        given = {"key": row["key"], "origin": None} | row | {"number": number, "path": f"ü 1/{path.name}"}
        tables.append(pa.Table.from_pylist([given], SCHEMA))
    tables = [pa.concat_tables(tables[:3]), pa.concat_tables(tables[3:])]
    out = tmp_path / "out"
    return SortedImages(out, "runs/pets", CLASSES, tables, lambda row: (out / row["path"]).read_bytes())


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "origin", "name", "reason", "path")),
        *(("cluster", pa.int32()), ("confidence", pa.float32()), ("calibrated", pa.float32())),
        ("number", pa.int64()),
    ]
)


def write(given: SortedImages, how: str) -> None:
    """Write a format; what goes in comes out, for the table of them all."""
    assert pa.concat_tables(FORMATS[how](given)) == pa.concat_tables(given.tables)


def test_classes_are_in_order():
    assert in_order({"10", "9", None, "b", "a"}) == ["9", "10", "a", "b"]


def test_coco(given):
    write(given, "coco")
    content = json.loads((given.out / "coco.json").read_text())
    key = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    size = {key[image["id"]]: (image["width"], image["height"]) for image in content["images"]}
    assert size == {"a": (40, 30), "turned": (30, 40), "c": (40, 30), "far": (40, 30)}
    assert [image.get("reason") for image in content["images"]] == [None, None, None, "too far"]
    called = {category["id"]: category["name"] for category in content["categories"]}
    assert list(called.values()) == CLASSES
    found = {
        key[one["image_id"]]: (called[one["category_id"]], one["score"]) for one in content["annotations"]
    }
    assert found == {name: (CLASS[name], SURE[name]) for name in SURE}
    for one in content["annotations"]:
        assert one["bbox"] == [0, 0, *size[key[one["image_id"]]]]
    for image in content["images"]:
        assert (given.out / image["file_name"]).exists()


@pytest.mark.slow
def test_coco_by_pycocotools(given):
    coco = pytest.importorskip("pycocotools.coco")
    write(given, "coco")
    found = coco.COCO(str(given.out / "coco.json"))
    (cats,) = found.getCatIds(catNms=[CATS])
    assert sorted(found.getImgIds(catIds=[cats])) == [1, 2]
    assert found.loadAnns(found.getAnnIds(imgIds=[2]))[0]["bbox"] == [0, 0, 30, 40]
    assert len(found.getImgIds()) == 4


def test_label_studio(given):
    write(given, "label-studio")
    tasks = json.loads((given.out / "tasks.json").read_text())
    choices = ElementTree.parse(given.out / "label-studio.xml").findall(".//Choice")
    assert [choice.get("value") for choice in choices] == CLASSES
    for task in tasks:
        prefix, path = task["data"]["image"].split("?d=")
        assert prefix == "/data/local-files/"
        assert Path("/", unquote(path)).samefile(given.out / "ü 1" / f"{task['data']['key']}.jpg")
    assert [task["data"]["key"] for task in tasks] == list(CLASS)
    predicted = {task["data"]["key"]: task["predictions"] for task in tasks if "predictions" in task}
    assert {key: one["score"] for key, (one,) in predicted.items()} == SURE
    for key, (one,) in predicted.items():
        assert one["result"][0]["value"] == {"choices": [CLASS[key]]}
    assert tasks[-1]["data"]["reason"] == "too far"


@pytest.mark.slow
def test_label_studio_by_its_sdk(given):
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    write(given, "label-studio")
    interface = sdk.LabelInterface((given.out / "label-studio.xml").read_text())
    interface.validate()
    for task in json.loads((given.out / "tasks.json").read_text()):
        predictions = task.pop("predictions", [])  # of a task with them release 2.1 fails by itself
        assert interface.validate_task(task)
        for prediction in predictions:
            assert interface.validate_prediction(prediction, return_errors=True) == []


def test_fiftyone(given):
    write(given, "fiftyone")
    labels, paths = (json.loads((given.out / name).read_text()) for name in ("labels.json", "data.json"))
    assert labels["classes"] == CLASSES
    assert list(labels["labels"]) == list(paths)
    found = {Path(paths[number]).stem: label for number, label in labels["labels"].items()}
    assert found.pop("far") is None
    assert found == {key: {"label": CLASS[key], "confidence": SURE[key]} for key in SURE}


@pytest.mark.slow
def test_fiftyone_by_its_importer(given):
    """What `Dataset.from_dir` reads by; that itself needs MongoDB."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    write(given, "fiftyone")
    reader = importers.FiftyOneImageClassificationDatasetImporter(str(given.out), data_path="data.json")
    with reader:
        found = {Path(path).stem: (path, label) for path, _, label in reader}
    assert {key: label and label.label for key, (_, label) in found.items()} == CLASS
    assert {key: label.confidence for key, (_, label) in found.items() if label} == SURE
    assert all(os.path.exists(path) for path, _ in found.values())


def check_parquet(given: SortedImages, rows: list[dict[str, Any]]) -> None:
    assert [row["key"] for row in rows] == list(CLASS)
    for row in rows:
        data = (given.out / "ü 1" / f"{row['key']}.jpg").read_bytes()
        assert row["image"] == {"bytes": data, "path": f"{row['key']}.jpg"}
        assert (None if row["label"] is None else CLASSES[row["label"]]) == CLASS[row["key"]]
    assert [row["cluster"] for row in rows] == [3, 4, 10, -1]
    assert rows[-1]["reason"] == "too far"


def test_datasets(given, monkeypatch):
    """In files and groups of rows that are not too large."""
    monkeypatch.setattr(annotation_formats, "GROUP_BYTES", 1000)
    monkeypatch.setattr(annotation_formats, "FILE_BYTES", 1500)
    write(given, "datasets")
    files = sorted((given.out / "data").iterdir())
    assert [path.name for path in files] == ["train-00000.parquet", "train-00001.parquet"]
    check_parquet(given, [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()])
    card = (given.out / "README.md").read_text()
    assert card.startswith("---\nlicense: unknown\n")
    assert "4 images in 2 clusters" in card


@pytest.mark.slow
def test_datasets_by_itself(given, tmp_path):
    datasets = pytest.importorskip("datasets")
    write(given, "datasets")
    found = datasets.load_dataset(str(given.out), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == CLASSES
    assert isinstance(found.features["image"], datasets.Image)
    assert found[0]["image"].size == (40, 30)
    check_parquet(given, list(found.cast_column("image", datasets.Image(decode=False))))


def test_files_are_named_where_they_are_and_images_of_shards_copied(run, shards, tmp_path, capsys):
    photos = make_images(tmp_path / "photos", 6, classes=2)
    (photos / "bad.jpg").write_bytes(b"garbage")
    out = tmp_path / "handed"
    command = ["sort", str(run), "--images", str(photos), "--out", str(out), "--as", "coco", "--workers", "0"]
    assert main([*command, "--device", "cpu"]) == 0
    assert f"{out}/coco.json: an annotation an image" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"clusters.csv", "coco.json"}
    named = {image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"]}
    assert named == {str(path) for path in photos.glob("class*/*.jpg")}

    out = tmp_path / "of shards"
    sort_run(run, ImagesToSort(str(shards)), out, "fiftyone", device="cpu", workers=0)
    paths = json.loads((out / "data.json").read_text())
    assert len(paths) == 150
    assert {str(path.relative_to(out)) for path in out.rglob("*.jpg")} == set(paths.values())

    out = tmp_path / "in parquet"
    sort_run(run, ImagesToSort(str(shards)), out, "datasets", device="cpu", workers=0)
    assert {path.name for path in out.iterdir()} == {"clusters.csv", "data", "README.md"}
    rows = pyarrow.parquet.read_table(out / "data").to_pylist()
    assert len(rows) == 150
    assert Image.open(io.BytesIO(rows[7]["image"]["bytes"])).size == (40, 30)
