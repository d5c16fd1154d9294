"""Tars as others make them, and what is read from them."""

import io
import tarfile
from pathlib import Path

import webdataset as wds
from PIL import Image

from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest


def encoded(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(data, "JPEG")
    return data.getvalue()


def write(path: Path, first: int, count: int, label: bool = False, folder: str = "00/") -> None:
    """Write a tar as webdataset's own writer and LAION's tools do."""
    with wds.TarWriter(str(path)) as writer:
        for i in range(first, first + count):
            sample = {
                "__key__": f"{folder}{i:06d}",
                "jpg": encoded(i),
                "txt": "a caption",
                "json": {"width": 4},
            }
            writer.write(sample | ({"cls": i % 3} if label else {}))


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def pack(path: Path, *members: tuple[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add(tar, name, data)


def sample(key: str, label: str | None = None) -> list[tuple[str, bytes]]:
    return [
        (f"{key}.jpg", encoded(len(key))),
        *([] if label is None else [(f"{key}.cls", label.encode())]),
    ]


def read(made: Manifest) -> dict[str, int]:
    reader = SampleReader(made, list(made.splits))
    return {reader[i].key: reader[i].label for i in range(len(reader))}
