"""Sorted images in the formats of other tools: COCO, Label Studio, FiftyOne, Hugging Face datasets.

::

    coco          OUT/coco.json                              an annotation an image, over all of it
    label-studio  OUT/tasks.json    OUT/label-studio.xml     tasks with predictions; the labelling interface
    fiftyone      OUT/labels.json   OUT/data.json            a FiftyOneImageClassificationDataset
    datasets      OUT/data/*.parquet    OUT/README.md        images, clusters, a dataset card

A format is a generator: it passes tables on while it writes, and its files are complete after the last table. An
image without a cluster is included without a class, one that cannot be read is not included.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import yaml

from ccscale import atomic
from ccscale.data.images.channels import size_of
from ccscale.data.shards.keys import unescaped

FILE_BYTES, GROUP_BYTES = 2**28, 2**25  # of images, of a file and of a group of rows


@dataclass(frozen=True)
class SortedImages:
    """Images in their clusters, to be exported.

    Attributes
    ----------
    out
        The folder.
    run
        The run, as named by the user.
    classes
        Names of the clusters, in order.
    tables
        Rows of `table.to_table` with their ``number`` among all, and ``path``, escaped: absolute, or in `out`.
    data
        Returns the bytes of a row's image.
    """

    out: Path
    run: str
    classes: Sequence[str]
    tables: Iterable[pa.Table]
    data: Callable[[Mapping[str, Any]], bytes]

    def __iter__(self) -> Iterator[tuple[pa.Table, list[dict[str, Any]]]]:
        """Yield each table with those of its rows whose images can be read."""
        for table in self.tables:
            yield table, [row for row in table.to_pylist() if row["cluster"] is not None]


def class_of(row: Mapping[str, Any]) -> str | None:
    """Return the name or number of an image's cluster; None without a cluster."""
    return None if row["cluster"] is None or row["cluster"] < 0 else row.get("name") or str(row["cluster"])


def in_order(classes: Iterable[str | None]) -> list[str]:
    """Return the classes in order: numbers ascending, then names."""
    return sorted(
        filter(None, classes), key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name)
    )


def confidence_of(row: Mapping[str, Any]) -> float:
    """Return the calibrated confidence, or the raw one if it was not calibrated."""
    return float(row["confidence"] if row.get("calibrated") is None else row["calibrated"])


def coco(images: SortedImages) -> Iterator[pa.Table]:
    """Write COCO's JSON; an annotation's box is the whole image, its ``score`` the confidence."""
    numbers = {name: number for number, name in enumerate(images.classes, start=1)}
    categories = [
        {"id": number, "name": name, "supercategory": "cluster"} for name, number in numbers.items()
    ]
    with atomic.replacing(images.out / "coco.json") as file, tempfile.TemporaryFile() as boxes:
        file.write(f'{{"info": {{"description": {json.dumps(f"clusters of {images.run}")}}},\n'.encode())
        file.write(f'"categories": {json.dumps(categories)},\n"images": ['.encode())
        in_images, in_boxes = _Listed(file), _Listed(boxes)
        for table, rows in images:
            for row in rows:
                width, height = size_of(images.data(row))
                number = row["number"] + 1
                told = {"id": number, "file_name": unescaped(row["path"]), "width": width, "height": height}
                in_images.add(told | ({"reason": row["reason"]} if row.get("reason") else {}))
                if (name := class_of(row)) is not None:
                    in_boxes.add(
                        {
                            "id": number,
                            "image_id": number,
                            "category_id": numbers[name],
                            "bbox": [0, 0, width, height],
                            "area": width * height,
                            "iscrowd": 0,
                            "segmentation": [],
                            "score": confidence_of(row),
                        }
                    )
            yield table
        file.write(b'],\n"annotations": [')
        boxes.seek(0)
        for part in iter(lambda: boxes.read(2**20), b""):
            file.write(part)
        file.write(b"]}\n")


def label_studio(images: SortedImages) -> Iterator[pa.Table]:
    """Write tasks with the clusters as predictions, and the labelling interface for them."""
    choices = "".join(f"\n    <Choice value={quoteattr(name)}/>" for name in images.classes)
    interface = (
        f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="cluster" toName="image">{choices}\n'
        "  </Choices>\n</View>\n"
    )
    atomic.write_bytes(images.out / "label-studio.xml", interface.encode())
    with atomic.replacing(images.out / "tasks.json") as file:
        file.write(b"[")
        tasks = _Listed(file)
        for table, rows in images:
            for row in rows:
                path = os.fsencode(os.path.abspath(images.out / unescaped(row["path"])))
                data = {
                    "image": f"/data/local-files/?d={quote(path.lstrip(b'/'))}",
                    "key": row["key"],
                    "cluster": row["cluster"],
                }
                task: dict[str, Any] = {
                    "data": data | ({"reason": row["reason"]} if row.get("reason") else {})
                }
                if (name := class_of(row)) is not None:
                    choice = {"from_name": "cluster", "to_name": "image", "type": "choices"}
                    result = [choice | {"value": {"choices": [name]}}]
                    said = {"model_version": images.run, "score": confidence_of(row), "result": result}
                    task["predictions"] = [said]
                tasks.add(task)
            yield table
        file.write(b"]\n")


def fiftyone(images: SortedImages) -> Iterator[pa.Table]:
    """Write labels and paths of a FiftyOneImageClassificationDataset."""
    with ExitStack() as stack:
        labels = stack.enter_context(atomic.replacing(images.out / "labels.json"))
        paths = stack.enter_context(atomic.replacing(images.out / "data.json"))
        labels.write(f'{{"classes": {json.dumps(images.classes)},\n"labels": {{'.encode())
        paths.write(b"{")
        in_labels, in_paths = _Listed(labels), _Listed(paths)
        for table, rows in images:
            for row in rows:
                name, number = class_of(row), str(row["number"])
                label = None if name is None else {"label": name, "confidence": confidence_of(row)}
                in_labels.add(label, number)
                in_paths.add(unescaped(row["path"]), number)
            yield table
        labels.write(b"}}\n")
        paths.write(b"}\n")


def datasets(images: SortedImages) -> Iterator[pa.Table]:
    """Write images and clusters as parquet that Hugging Face's datasets reads with its features, and a card."""
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features["label"] = {"_type": "ClassLabel", "names": list(images.classes)}
    classes = {name: number for number, name in enumerate(images.classes)}
    (images.out / "data").mkdir(exist_ok=True)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    total = files = written = 0
    with ExitStack() as stack:
        writer: Any = None
        for table, rows in images:
            kept = table.filter(pa.compute.is_valid(table["cluster"])).drop_columns(["number", "path"])
            schema = pa.schema([("image", kind), ("label", pa.int64()), *kept.schema])
            own = {field.name: {"_type": "Value", "dtype": str(field.type)} for field in kept.schema}
            about = {"info": {"features": features | own}}
            schema = schema.with_metadata({"huggingface": json.dumps(about)})
            start, held, data = 0, 0, list[dict[str, Any]]()
            for at, row in enumerate(rows, start=1):
                data.append({"bytes": images.data(row), "path": os.path.basename(row["path"])})
                held += len(data[-1]["bytes"])
                if held < GROUP_BYTES and at < len(rows):
                    continue
                if writer is None or written >= FILE_BYTES:
                    stack.close()
                    path = images.out / "data" / f"train-{files:05d}.parquet"
                    file = stack.enter_context(atomic.replacing(path))
                    writer = stack.enter_context(pa.parquet.ParquetWriter(file, schema))
                    files, written = files + 1, 0
                names = [class_of(one) for one in rows[start:at]]
                labels = pa.array([None if one is None else classes[one] for one in names], pa.int64())
                columns = [pa.array(data, kind), labels, *kept.slice(start, at - start).columns]
                writer.write_table(pa.table(columns, schema=schema))
                start, held, written, data = at, 0, written + held, []
            total += len(rows)
            yield table
    atomic.write_bytes(images.out / "README.md", _card(images, total).encode())


def _card(images: SortedImages, total: int) -> str:
    split = {"split": "train", "path": "data/*.parquet"}
    head = {
        "license": "unknown",
        "task_categories": ["image-classification"],
        "configs": [{"config_name": "default", "data_files": [split]}],
    }
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# Clusters of {images.run}\n\n{total:,} images in "
        f"{len(images.classes):,} clusters, found without labels by ccscale. `label` is the cluster by its name, "
        "null where an image was left without one; `cluster` its number (-1: none), `confidence` the soft "
        "assignment to it. Add here who owns the images, and their licence.\n"
    )


class _Listed:
    """Rows of a list or an object in JSON, one a line, as they come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._comma = file, b"\n"

    def add(self, row: Any, key: str | None = None) -> None:
        front = b"" if key is None else f"{json.dumps(key)}: ".encode()
        self._file.write(self._comma + front + json.dumps(row).encode())
        self._comma = b",\n"


FORMATS: dict[str, Callable[[SortedImages], Iterator[pa.Table]]] = {
    "coco": coco,
    "label-studio": label_studio,
    "fiftyone": fiftyone,
    "datasets": datasets,
}
EMBEDS = {"datasets"}  # has the images in itself, and needs no files of them
