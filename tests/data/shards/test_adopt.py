"""Tars that others made get a manifest and indexes."""

import errno
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import webdataset as wds
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.reader import SampleReader
from ccscale.data.shards import adopted_tar
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.scan import Scan
from ccscale.data.shards.tar_listing import tars_below
from ccscale.data.shards.verify import verify
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
    assert verify(tmp_path).problems == []
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


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format(tmp_path: Path, format: int) -> None:
    """With names too long for the plain header, and not ASCII, where the format has a way for them."""
    keys = ["00/000001", "größe/ü", "d" * 90 + "/" + "x" * 90]
    if format != tarfile.USTAR_FORMAT:
        keys.append("/".join(["e" * 120] * 3))
    with tarfile.open(tmp_path / "00000.tar", "w", format=format) as tar:
        folder = tarfile.TarInfo("00")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, key in enumerate(keys):
            add(tar, f"{key}.jpg", encoded(number))
            add(tar, f"{key}.cls", b"%d\n" % number)
    made = adopt(tmp_path, workers=1, progress=False)
    reader = SampleReader(made, ["train"])
    assert [reader[i] for i in range(len(reader))] == [
        (key, encoded(number), number) for number, key in enumerate(keys)
    ]
    assert made.classes == tuple(str(i) for i in range(len(keys)))
    assert verify(tmp_path, workers=1).problems == []


@pytest.mark.parametrize("format", ["ustar", "gnu", "pax", "oldgnu", "v7"])
def test_the_real_tar_program(tmp_path: Path, format: str) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    for number in range(3):
        place = tmp_path / "files" / f"{number:05d}"
        place.mkdir(parents=True)
        (place / "a.jpg").write_bytes(encoded(number))
        (place / "a.txt").write_text("a caption")
        (place / "b.png.jpg").write_bytes(
            encoded(9)
        )  # another member of the sample b, with a double extension
        (place / "b.webp").write_bytes(encoded(number + 3))
    command = [
        "tar",
        f"--format={format}",
        "--sort=name",
        "-C",
        tmp_path / "files",
        "-cf",
        tars / "photos-01.tar",
        ".",
    ]
    subprocess.run(command, check=True)
    made = adopt(tars, workers=1, progress=False)
    assert made.splits == {"photos": (6, 1)}
    reader = SampleReader(made, ["photos"])
    assert [reader[i].key for i in range(6)] == [f"./{n:05d}/{key}" for n in range(3) for key in "ab"]
    assert [reader[i].data for i in range(6)] == [encoded(i) for i in (0, 3, 1, 4, 2, 5)]
    assert verify(tars, workers=1).problems == []


def test_webdatasets_own_shard_writer(tmp_path: Path) -> None:
    with wds.ShardWriter(str(tmp_path / "%06d.tar"), maxcount=4, verbose=0) as writer:
        for i in range(10):
            writer.write({"__key__": f"sample{i:04d}", "jpg": encoded(i), "cls": i % 2})
    made = adopt(tmp_path, workers=1, progress=False)
    assert made.splits == {"train": (10, 3)}
    assert made.labelled == {"train": 10}
    reader = SampleReader(made, ["train"])
    assert [reader[i] for i in (0, 9)] == [("sample0000", encoded(0), 0), ("sample0009", encoded(9), 1)]


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


@pytest.mark.parametrize("workers", [1, 2])
def test_all_damaged_tars_are_named_and_nothing_is_left(tmp_path: Path, workers: int) -> None:
    for number in range(5):
        write(tmp_path / f"{number:05d}.tar", 10 * number, 3)
    adopt(tmp_path, workers=1, progress=False)
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "00004.index.parquet").unlink()  # what was there before stays, what is new goes
    cut = tmp_path / "00001.tar"
    cut.write_bytes(cut.read_bytes()[:3000])
    flipped = bytearray((tmp_path / "00003.tar").read_bytes())
    flipped[150] ^= 1
    (tmp_path / "00003.tar").write_bytes(flipped)
    (tmp_path / "00002.tar").unlink()
    (tmp_path / "00002.tar").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError) as caught:
        adopt(tmp_path, workers=workers, progress=False)
    message = str(caught.value)
    assert message.startswith(f"3 of the 5 tars in {tmp_path} cannot be indexed: 00001.tar: the tar is ")
    assert (
        "; 00002.tar: it cannot be read: No such file or directory; 00003.tar: the tar is damaged" in message
    )
    assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_only_so_many_damaged_tars_are_named(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number:05d}.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match=r"13 of the 13 tars .*00009\.tar: .*; and 3 more$"):
        adopt(tmp_path, workers=1, progress=False)


def test_an_empty_tar_among_others(tmp_path: Path) -> None:
    """As downloaders leave them where nothing of a shard could be had."""
    tarfile.open(tmp_path / "00000.tar", "w").close()
    with pytest.raises(InputError, match="hold no images"):
        adopt(tmp_path, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]
    write(tmp_path / "00001.tar", 0, 3)
    made = adopt(tmp_path, workers=1, progress=False)
    assert [shard.nsamples for shard in made.shards] == [0, 3]
    assert SampleReader(made, ["train"])[0].key == "00/000000"
    assert verify(tmp_path, workers=1).problems == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", 0, 3)
    (tmp_path / "00000.index.parquet.new.part").mkdir()
    with pytest.raises(InputError, match=r"indexes cannot be written into .* \(Is a directory\): .* --out"):
        adopt(tmp_path, workers=1, progress=False)
    assert not (tmp_path / "dataset.json").exists()


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


@pytest.mark.parametrize(
    "name", ["2024-01-01T00:00.tar", "a\\b.tar", "a\nb.tar", "caf\udce9.tar", "%2e%2e/x.tar", "a\x1b[2Jb.tar"]
)
def test_a_name_that_no_manifest_could_list_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "00000.tar", 0, 2)
    write(tmp_path / "other", 2, 2)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "other").rename(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("ccscale.pool.run", lambda *arguments: pytest.fail("read"))
    with pytest.raises(InputError, match="rename it") as caught:
        adopt(tmp_path, workers=1, progress=False)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "a:b"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    write(tmp_path / "00000.tar", 0, 2)
    (tmp_path / "00000.tar").rename(tmp_path / name / "00000.tar")
    adopt(tmp_path / name, workers=1, progress=False)
    assert Manifest.load(tmp_path / name).name == name.replace("\udce9", "%xE9")
    assert verify(tmp_path / name, workers=1).problems == []


def test_what_is_passed_over_is_told_and_refused_by_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "00000.tar", *sample("a"), ("README.md", b"hi"))
    pack(tmp_path / "00001.tar", *sample("b"), ("Thumbs.db", b"x"), ("x.md", b"hi"))
    with pytest.raises(
        InputError,
        match=r"00000\.tar: 1 member is passed over \(1 \.md\), as 'README\.md', which --strict refuses",
    ):
        adopt(tmp_path, workers=1, progress=False, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.tar", "00001.tar"]
    made = adopt(tmp_path, workers=1)
    assert (
        "3 members are passed over (1 .db, 2 .md), the first in 00000.tar; --strict"
        in capsys.readouterr().err
    )
    assert read(made) == {"a": -1, "b": -1}
    assert Manifest.load(tmp_path).passed_over == {".db": 1, ".md": 2}
    assert (verify(tmp_path).problems, verify(tmp_path, 1).passed.kinds) == ([], {".db": 1, ".md": 2})


def test_a_class_index_is_bounded(tmp_path: Path) -> None:
    pack(tmp_path / "00000.tar", *sample("a", "3"), *sample("b", "99999999"))
    with pytest.raises(
        InputError, match=r"00000\.tar: of the sample 'b', the label '99999999' is not from 0 to"
    ):
        adopt(tmp_path, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]


def test_labels_that_are_names(tmp_path: Path) -> None:
    """Of the whole data set together, though a tar alone may look as if it had numbers."""
    pack(tmp_path / "00000.tar", *sample("a", "dog"), *sample("b", "cat"), *sample("c", "NA"))
    pack(tmp_path / "00001.tar", *sample("d", "7"), *sample("e", "0"), *sample("f"), *sample("g", "07"))
    made = adopt(tmp_path, workers=1, progress=False)
    assert made.classes == ("0", "07", "7", "cat", "dog")
    expected = {"a": 4, "b": 3, "c": -1, "d": 2, "e": 0, "f": -1, "g": 1}
    assert read(Manifest.load(tmp_path)) == expected
    assert made.labelled == {"train": 5}
    assert verify(tmp_path, workers=1).problems == []
    (tmp_path / "00000.index.parquet").unlink()  # it is scanned, and the manifest knows what the names mean
    assert read(Manifest.load(tmp_path)) == expected


def test_labels_in_a_field(tmp_path: Path) -> None:
    pack(
        tmp_path / "00000.tar", *sample("a"), ("a.json", b'{"breed": "pug"}'), *sample("b"), ("b.json", b"{}")
    )
    made = adopt(tmp_path, workers=1, progress=False, label_field="breed")
    assert (made.classes, read(made)) == (("pug",), {"a": 0, "b": -1})
    assert verify(tmp_path, workers=1).problems == []
    (tmp_path / "00000.index.parquet").unlink()
    assert read(Manifest.load(tmp_path)) == {"a": 0, "b": -1}


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
    with pytest.raises(InputError, match=r"00001\.tar: of the sample 'b', the label 'cat' is no number"):
        adopt(tmp_path, workers=1, progress=False)
    with pytest.raises(InputError, match=r"--label-field x: the labels of .* are read from cls"):
        adopt(tmp_path, workers=1, progress=False, label_field="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.index.parquet", "00000.tar", "00001.tar", "dataset.json"
    ]  # fmt: skip
    pack(tmp_path / "00000.tar", *sample("a", "1"), ("more.txt", bytes(20_000)))
    with pytest.raises(InputError, match=r"00000\.tar disagrees with its manifest"):
        adopt(tmp_path, workers=1, progress=False)
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(InputError, match=r"lists the tar 00000\.tar, which is not there"):
        adopt(tmp_path, workers=1, progress=False)
    assert (tmp_path / "dataset.json").read_bytes() == before


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
    with pytest.raises(InputError, match="lies in"):
        adopt(data, workers=1, progress=False, out=data / "val")
    pack(tmp_path / "bad/00000.tar", ("x.txt", b""))
    with pytest.raises(InputError, match="no images"):
        adopt(tmp_path / "bad", workers=1, progress=False, out=tmp_path / "none")
    assert not (tmp_path / "none").exists() or list((tmp_path / "none").iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(tmp_path / "tars/a_0.tar", *sample("a"), ("a.json", b'{"kind": "cat"}'))
    pack(tmp_path / "tars/b_0.tar", *sample("b"), ("b.json", b'{"kind": "dog"}'), ("x.md", b""))

    def run(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code = main(["shards", *map(str, arguments), "--workers", "1", "--json"])
        return code, json.loads(capsys.readouterr().out or "null")

    options = (
        "--split",
        "b_*=test",
        "--split",
        "a_*=train",
        "--label-field",
        "kind",
        "--out",
        tmp_path / "out",
    )
    assert run("index", tmp_path / "tars", *options, "--strict") == (2, None)
    code, facts = run("index", tmp_path / "tars", *options)
    assert (code, facts["passed_over"]) == (0, {".md": 1})
    assert {name: split["labelled"] for name, split in facts["splits"].items()} == {"train": 1, "test": 1}
    assert [entry["name"] for entry in facts["classes"]] == ["cat", "dog"]
    code, facts = run("verify", tmp_path / "out")
    assert (code, facts["ok"], facts["passed_over"]) == (0, True, {".md": 1})
    code, facts = run("verify", tmp_path / "out", "--strict")
    assert (code, facts["ok"], facts["problems"]) == (1, False, [])


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    pack(tmp_path / "elsewhere/00000.tar", *sample("a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to("../elsewhere")
    made = adopt(tmp_path / "data", workers=1, progress=False)
    assert [shard.url for shard in made.shards] == ["train/00000.tar"]
    assert verify(tmp_path / "data", workers=1).problems == []
    (tmp_path / "data/itself").symlink_to("itself")
    (tmp_path / "data/nowhere").symlink_to("gone")
    assert tars_below(str(tmp_path / "data")) == ["train/00000.tar"]
    pack(tmp_path / "loop/a/00000.tar", *sample("a"))
    pack(tmp_path / "loop/b/00000.tar", *sample("b"))
    (tmp_path / "loop/a/b").symlink_to("../b")
    (tmp_path / "loop/b/a").symlink_to("../a")
    with pytest.raises(InputError, match="links back to a folder that holds it: remove the link"):
        adopt(tmp_path / "loop", workers=1, progress=False)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "a/00000.tar", *sample("a"))
    pack(tmp_path / "b/00000.tar", *sample("b"))
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path.endswith("b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"/b/ cannot be read \(Permission denied\)"):
        adopt(tmp_path, workers=1, progress=False)


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("x.tar.gz", "gunzip x.tar.gz"),
        ("x.tgz", "gunzip x.tgz"),
        ("x.tar.zst", "unzstd --rm x.tar.zst"),
        ("a b.tar.xz", "unxz 'a b.tar.xz'"),
    ],
)
def test_compressed_tars_are_refused_by_name(tmp_path: Path, name: str, program: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"{name}: it is compressed, .*; run `{program}`"):
        adopt(tmp_path, workers=1, progress=False)
    pack(tmp_path / "00000.tar", *sample("a"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"x")
    with pytest.raises(InputError, match="and 1 more: it is compressed"):
        adopt(tmp_path, workers=1, progress=False)


@pytest.mark.parametrize("what", ["FIFO", "device"])
def test_a_tar_that_is_no_file_is_neither_waited_for_nor_read(tmp_path, what):
    (tmp_path / "tars").mkdir()
    path = tmp_path / "tars/x.tar"
    os.mkfifo(path) if what == "FIFO" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"x\.tar: it cannot be read: it is no file but a {what}"):
        adopt(tmp_path / "tars", workers=1, progress=False)
