"""Tars that others made get a manifest and indexes."""

import tarfile
from pathlib import Path

import pytest
from harness.foreign_tars import pack, read, sample, write

from ccscale.data.reader import SampleReader
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify
from ccscale.errors import InputError


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


def test_public_names_are_understood_and_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "imagenet1k-train-0000.tar", 0, 2)
    write(tmp_path / "imagenet1k-train-0001.tar", 2, 2)
    write(tmp_path / "imagenet1k-validation-00.tar", 4, 2)
    write(tmp_path / "more_b_0.tar", 6, 2)
    told: list[str] = []

    def look(*arguments: object) -> None:
        told.append(capsys.readouterr().err)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ccscale.pool.run", look)
        with pytest.raises(KeyboardInterrupt):
            adopt(tmp_path, ["*_b_*=test"], workers=1)
    assert "split train: imagenet1k-train-0000.tar to imagenet1k-train-0001.tar, 2 tars" in told[0]
    assert "split validation: imagenet1k-validation-00.tar\n" in told[0]
    assert "split test: more_b_0.tar\n" in told[0]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".tar"] * 4
    made = adopt(tmp_path, ["*_b_*=test"], workers=1, progress=False)
    assert made.splits == {"train": (4, 2), "validation": (2, 1), "test": (2, 1)}


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


def test_folders_of_tars(tmp_path: Path) -> None:
    """A folder with a split's name names the split of its tars, unless these have such a name, too."""
    places = ["00000.tar", "part-a/00000.tar", "val/00000.tar", "deep/test/00001.tar", "val/extra-0.tar"]
    for number, place in enumerate([*places, ".hidden/00000.tar", "own/00000.tar"]):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / place, 10 * number, 2)
    (tmp_path / "own/dataset.json").write_text("{}")
    made = adopt(tmp_path, workers=1, progress=False)
    assert {shard.url: shard.split for shard in made.shards} == {
        "00000.tar": "train",
        "part-a/00000.tar": "train",
        "val/00000.tar": "val",
        "deep/test/00001.tar": "test",
        "val/extra-0.tar": "val",
    }
    assert verify(tmp_path, workers=1).problems == []
    reader = SampleReader(Manifest.load(tmp_path), ["test"])
    assert reader[1].key == "00/000031"


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", 0, 3)
    (tmp_path / "00000.index.parquet.new.part").mkdir()
    with pytest.raises(InputError, match=r"cannot write indexes to .* \(Is a directory\): .* --out"):
        adopt(tmp_path, workers=1, progress=False)
    assert not (tmp_path / "dataset.json").exists()


def test_indexes_elsewhere(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    pack(data / "00000.tar", *sample("a", "1"))
    pack(data / "val/00000.tar", *sample("b", "0"))
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    made = adopt(data, workers=1, progress=False, out=out)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert (made.root, made.name) == (str(out), "data")
    assert read(Manifest.load(out)) == {"a": 1, "b": 0}
    assert (verify(out, workers=1).problems, made.splits) == ([], {"train": (1, 1), "val": (1, 1)})
    pack(data / "00001.tar", *sample("c", "1"))
    assert read(adopt(data, workers=1, progress=False, out=out)) == {"a": 1, "c": 1, "b": 0}
    assert verify(out, workers=1).problems == []
    with pytest.raises(InputError, match="is inside"):
        adopt(data, workers=1, progress=False, out=data / "val")
    pack(tmp_path / "bad/00000.tar", ("x.txt", b""))
    with pytest.raises(InputError, match="no images"):
        adopt(tmp_path / "bad", workers=1, progress=False, out=tmp_path / "none")
    assert not (tmp_path / "none").exists() or list((tmp_path / "none").iterdir()) == []
