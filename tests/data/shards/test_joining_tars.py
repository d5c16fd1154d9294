"""Tars join what was indexed before: only they are read, and nothing that was told changes."""

from pathlib import Path
from typing import BinaryIO

import pytest
from harness.foreign_tars import pack, read, sample, write

from ccscale.data.shards import adopted_tar
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.scan import Scan
from ccscale.data.shards.verify import verify
from ccscale.errors import InputError


def test_the_same_manifest_whatever_was_there(tmp_path: Path) -> None:
    """An index of other bytes is replaced, so that a killed run can be started again."""
    write(tmp_path / "00000.tar", 0, 3)
    write(tmp_path / "00001.tar", 3, 3)
    adopt(tmp_path, workers=1, progress=False)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "00001.index.parquet").write_bytes(expected["00000.index.parquet"])
    adopt(tmp_path, workers=2, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


def test_new_tars_join_what_was_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only they are read, and the files are those of all tars indexed at once."""
    pack(tmp_path / "one/00001.tar", *sample("a", "1"), ("x.md", b""))
    pack(tmp_path / "all/00001.tar", *sample("a", "1"), ("x.md", b""))
    adopt(tmp_path / "one", workers=1, progress=False)
    for place in ("one", "all"):
        pack(tmp_path / place / "00000.tar", *sample("b", "3"), ("y.md", b""))
        pack(tmp_path / place / "val-0.tar", *sample("c", "0"))
    opened: list[str] = []
    scan = adopted_tar.scan

    def watched(file: BinaryIO, path: str, field: str | None) -> Scan:
        opened.append(path)
        return scan(file, path, field)

    with monkeypatch.context() as patch:
        patch.setattr(adopted_tar, "scan", watched)
        made = adopt(tmp_path / "one", workers=1, progress=False)
        assert [Path(path).name for path in opened] == ["00000.tar", "val-0.tar"]
        again = adopt(tmp_path / "one", workers=1, progress=False)
        assert len(opened) == 2
    assert made.splits == {"train": (2, 2), "val": (1, 1)}
    assert Manifest.load(tmp_path / "one") == Manifest.load(again.root)
    at_once = adopt(tmp_path / "all", workers=1, progress=False)
    assert (made.shards, made.classes, made.labelled, made.made_by) == (
        at_once.shards,
        at_once.classes,
        at_once.labelled,
        at_once.made_by,
    )
    assert verify(tmp_path / "one", workers=1).problems == []


def test_classes_keep_their_labels_when_tars_join(tmp_path: Path) -> None:
    pack(tmp_path / "00000.tar", *sample("a", "dog"), *sample("b", "fox"))
    adopt(tmp_path, workers=1, progress=False)
    pack(tmp_path / "00001.tar", *sample("c", "cat"), *sample("d", "fox"))
    made = adopt(tmp_path, workers=1, progress=False)
    assert made.classes == made.class_ids == ("dog", "fox", "cat")
    assert read(Manifest.load(tmp_path)) == {"a": 0, "b": 1, "c": 2, "d": 1}
    assert verify(tmp_path, workers=1).problems == []


def test_what_does_not_go_with_the_tars_before(tmp_path: Path) -> None:
    pack(tmp_path / "00000.tar", *sample("a", "1"))
    adopt(tmp_path, workers=1, progress=False)
    before = (tmp_path / "dataset.json").read_bytes()
    pack(tmp_path / "00001.tar", *sample("a", "1"))
    with pytest.raises(
        InputError, match=r"00001\.tar: two samples have the key 'a', the other in 00000\.tar"
    ):
        adopt(tmp_path, workers=1, progress=False)
    pack(tmp_path / "00001.tar", *sample("b", "cat"))
    with pytest.raises(InputError, match=r"00001\.tar: of the sample 'b', the label 'cat' is not a number"):
        adopt(tmp_path, workers=1, progress=False)
    with pytest.raises(InputError, match=r"--label-field x: the labels of .* are read from cls"):
        adopt(tmp_path, workers=1, progress=False, label_field="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.index.parquet", "00000.tar", "00001.tar", "dataset.json"
    ]  # fmt: skip
    pack(tmp_path / "00000.tar", *sample("a", "1"), ("more.txt", bytes(20_000)))
    with pytest.raises(InputError, match=r"00000\.tar does not match its manifest"):
        adopt(tmp_path, workers=1, progress=False)
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(InputError, match=r"lists the tar 00000\.tar, which is missing"):
        adopt(tmp_path, workers=1, progress=False)
    assert (tmp_path / "dataset.json").read_bytes() == before
