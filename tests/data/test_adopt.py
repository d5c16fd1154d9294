"""Tars that others made get a manifest and indexes."""

import io
import tarfile
from pathlib import Path

import pytest
import webdataset as wds
from PIL import Image

from ccscale.data.adopt import adopt
from ccscale.data.manifest import Manifest
from ccscale.data.reader import SampleReader
from ccscale.data.verify import verify
from ccscale.errors import InputError


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


def test_laion_style_tars(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", 0, 5)
    write(tmp_path / "00001.tar", 5, 4)
    made = adopt(tmp_path, workers=1, progress=False)
    assert made.splits == {"train": (9, 2)}
    assert made.classes == ()
    assert made.labelled == {"train": 0}
    assert verify(tmp_path) == []
    reader = SampleReader(Manifest.load(tmp_path), ["train"])
    assert [reader[i].key for i in (0, 8)] == ["00/000000", "00/000008"]
    assert reader[7].data == encoded(7)
    assert reader[7].label == -1


def test_splits_by_name_and_labels(tmp_path: Path) -> None:
    write(tmp_path / "train-000000.tar", 0, 6, label=True)
    write(tmp_path / "val-000000.tar", 6, 3, label=True)
    made = adopt(tmp_path, workers=1, progress=False)
    assert made.splits == {"train": (6, 1), "val": (3, 1)}
    assert made.classes == ("0", "1", "2")
    assert made.labelled == {"train": 6, "val": 3}
    before = (tmp_path / "train-000000.tar").read_bytes()
    assert SampleReader(made, ["val"])[1].label == 7 % 3
    assert (tmp_path / "train-000000.tar").read_bytes() == before


def test_one_split_for_all(tmp_path: Path) -> None:
    write(tmp_path / "train-000000.tar", 0, 2)
    assert list(adopt(tmp_path, split="all", workers=1, progress=False).splits) == ["all"]


def test_a_key_in_two_tars_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", 0, 3)
    write(tmp_path / "00001.tar", 2, 3)
    with pytest.raises(
        InputError, match=r"00001\.tar: two samples have the key '00/000002', the other in 00000"
    ):
        adopt(tmp_path, workers=1, progress=False)
    assert not (tmp_path / "dataset.json").exists()


def test_what_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tars"):
        adopt(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        adopt(tmp_path / "nowhere")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("x.jpg"))
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="already"):
        adopt(tmp_path)
