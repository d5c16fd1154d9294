"""Tars that others made get a manifest and indexes."""

import io
import subprocess
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
        patch.setattr("ccscale.data.pool.run", look)
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
    assert verify(tmp_path, workers=1) == []


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
    assert verify(tars, workers=1) == []


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
    assert verify(tmp_path, workers=1) == []
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
    assert verify(tmp_path, workers=1) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", 0, 3)
    (tmp_path / "00000.index.parquet.part").mkdir()
    with pytest.raises(
        InputError, match=r"indexes cannot be written beside the tars in .* \(Is a directory\)"
    ):
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
