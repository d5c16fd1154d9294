"""Tars of every writer are read alike, and what is wrong with one is told of it."""

import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset as wds
from harness.foreign_tars import add, encoded, pack, read, sample, write

from ccscale.data.reader import SampleReader
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify
from ccscale.errors import InputError


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
    with pytest.raises(InputError, match="contain no images"):
        adopt(tmp_path, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]
    write(tmp_path / "00001.tar", 0, 3)
    made = adopt(tmp_path, workers=1, progress=False)
    assert [shard.nsamples for shard in made.shards] == [0, 3]
    assert SampleReader(made, ["train"])[0].key == "00/000000"
    assert verify(tmp_path, workers=1).problems == []


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
        "3 members are passed over (1 .db, 2 .md), the first in 00000.tar; with --strict"
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
