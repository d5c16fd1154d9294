"""A conversion that was stopped anywhere and is started again keeps what is whole and ends with the same bytes."""

import fcntl
import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_images
from harness.killed_making import Killed, contents, die_at

from ccscale.data.conversion import conversion, shards
from ccscale.data.conversion.layout import request_digest
from ccscale.data.conversion.record import FOLDER
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify
from ccscale.data.sources.folders import folder
from ccscale.errors import Fault, InputError

OPTIONS = {"shard_samples": 4, "dedup": True}


@pytest.fixture
def images(tmp_path) -> Path:
    """Eleven images in three classes, one of them twice, and one that cannot be read."""
    root = make_images(tmp_path / "images", 10, size=(12, 9))
    shutil.copy(root / "class0/0000.jpg", root / "class2/again.jpg")
    (root / "class1/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return root


def make(images: Path, out: Path, **options) -> Manifest:
    return make_shards(folder(images), out, **{**OPTIONS, "workers": 1, "progress": False, **options})


@pytest.fixture
def unbroken(images, tmp_path) -> dict[str, bytes]:
    make(images, tmp_path / "unbroken")
    found = contents(tmp_path / "unbroken")
    assert sorted(found) == [
        "dataset.json",
        "duplicates.csv",
        "rejected.csv",
        *(f"train-00000{i}.{end}" for i in range(3) for end in ("index.parquet", "tar")),
    ]
    return found


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_file(images, tmp_path, unbroken, after):
    for step in itertools.count():
        out = tmp_path / f"out{step}"
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, step, after)
            try:
                make(images, out)
            except Killed:
                done = False
            else:
                done = True
        if done:
            break
        # The manifest is the last of all: where it is there, all else is.
        if (out / "dataset.json").exists():
            assert unbroken.items() <= contents(out).items()
            assert verify(out, workers=1).problems == []
        make(images, out)
        assert contents(out) == unbroken, f"killed at step {step}"
    assert step == 15  # request, hashes, layout, three shards of three files each, two lists, the manifest


def test_killed_while_the_notes_are_removed(images, tmp_path, unbroken, monkeypatch):
    def die(out) -> None:
        os.unlink(next(Path(out, FOLDER).glob("*.json")))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shards, "remove_notes", die)
        with pytest.raises(Killed):
            make(images, tmp_path / "out")
    assert (tmp_path / "out" / FOLDER).exists()
    make(images, tmp_path / "out")
    assert contents(tmp_path / "out") == unbroken


@pytest.fixture
def half(images, tmp_path, unbroken, monkeypatch) -> Path:
    """A conversion killed in its third shard: two are whole."""
    with monkeypatch.context() as patch:
        die_at(patch, 9, after=False)
        with pytest.raises(Killed):
            make(images, tmp_path / "half")
    names = sorted(path.name for path in (tmp_path / "half").iterdir() if path.is_file())
    assert names == [
        *(f"train-00000{i}.{end}" for i in range(2) for end in ("index.parquet", "tar")),
        "train-000002.tar.part",
    ]
    return tmp_path / "half"


def identities(root: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.glob("*.tar")}


@pytest.mark.parametrize("workers", [1, 2])
def test_whole_shards_are_kept(images, half, unbroken, workers, capsys):
    before = identities(half)
    make(images, half, workers=workers, progress=True)
    assert contents(half) == unbroken
    kept = identities(half)
    assert len(before) == 2
    assert before.items() <= kept.items()
    said = capsys.readouterr().err
    assert "continuing: 2 of 3 shards are done\n" in said
    # The rate counts what is done now: the four images of the last shard, one of them broken.
    assert "looking for duplicates" not in said  # nothing is left to do there
    assert "writing shards: 11 of 11 images" in said


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda half: flip(half / "train-000000.tar"),
        lambda half: flip(half / "train-000000.index.parquet"),
        lambda half: (half / "train-000000.tar").unlink(),
        lambda half: (half / "train-000000.index.parquet").unlink(),
        lambda half: (half / FOLDER / "train-000000.json").write_text("{"),
        lambda half: (half / FOLDER / "train-000000.json").unlink(),
        lambda half: (half / FOLDER / "hashes-000000.bin").write_bytes(b"short"),
        lambda half: (half / FOLDER / "plan.json").unlink(),
    ],
    ids=["tar", "index", "no tar", "no index", "record", "no record", "hashes", "no layout"],
)
def test_what_is_damaged_is_made_again(images, half, unbroken, damage):
    damage(half)
    make(images, half)
    assert contents(half) == unbroken


def test_only_our_temporary_files_are_removed(images, half, unbroken):
    ours = ["train-000001.index.parquet.part", "rejected.csv.part", "dataset.json.part"]
    for name in [*ours, "notes.part"]:
        (half / name).write_bytes(b"x")
    make(images, half)
    assert contents(half) == unbroken | {"notes.part": b"x"}


def test_other_options_and_others_images_are_refused(images, half, tmp_path):
    before = contents(half)
    with pytest.raises(InputError, match="unfinished shards of another source or other options"):
        make(images, half, resize=8)
    # The same names and another layout: the copy is no copy any more.
    (images / "class2/again.jpg").write_bytes((images / "class2/0002.jpg").read_bytes() + b" ")
    (half / FOLDER / "hashes-000000.bin").unlink()
    with pytest.raises(InputError, match=r"the images have changed since the conversion to .* began"):
        make(images, half)
    assert {name: data for name, data in contents(half).items() if "hashes" not in name} == {
        name: data for name, data in before.items() if "hashes" not in name
    }


def test_one_conversion_at_a_time(images, half, monkeypatch):
    monkeypatch.setattr(conversion, "LOCK_SECONDS", 0.2)
    with open(half / FOLDER / "lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is making shards in"):
            make(images, half)
    make(images, half)


def test_done_already(images, tmp_path, unbroken, capsys):
    out = tmp_path / "out"
    made = make(images, out)
    before = identities(out)
    assert make(images, out, workers=2, progress=True) == made  # the workers change nothing
    assert identities(out) == before
    assert "holds these shards: the same image names and" in capsys.readouterr().err
    (out / "train-000001.tar").unlink()
    with pytest.raises(InputError, match=r"train-000001\.tar does not match its manifest"):
        make(images, out)


def test_another_image_is_another_request(images, tmp_path):
    make(images, tmp_path / "out")
    (images / "class0/more.jpg").write_bytes((images / "class0/0000.jpg").read_bytes())
    with pytest.raises(InputError, match="already contains a data set"):
        make(images, tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(images, tmp_path, unbroken, workers):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train-000002.tar.part").symlink_to("/dev/full")
    with pytest.raises(
        Fault, match=r"cannot be written to \(No space left on device\): start the same command"
    ):
        make(images, out, workers=workers)
    kept = identities(out)
    make(images, out)
    assert contents(out) == unbroken
    assert kept.items() <= identities(out).items()
    assert len(kept) == 2 or workers == 2


def test_a_source_that_goes_away_is_no_broken_image(images, tmp_path, unbroken):
    source = folder(images)
    images.rename(tmp_path / "away")
    for options in ({}, {"dedup": True}):
        with pytest.raises(
            Fault, match=r"the source can no longer be read, at .*class\d/\w+\.jpg \(No such file"
        ):
            make_shards(source, tmp_path / "out", shard_samples=40, workers=1, progress=False, **options)
        assert not (tmp_path / "out").exists()
    (tmp_path / "away").rename(images)
    make(images, tmp_path / "out")
    assert contents(tmp_path / "out") == unbroken


def test_a_refusal_leaves_a_folder_as_it_was(images, tmp_path):
    (tmp_path / "out").mkdir()
    for path in images.rglob("*.jpg"):
        path.write_bytes(b"no image")
    for out in (tmp_path / "out", tmp_path / "new"):
        with pytest.raises(InputError, match="none of the 12 images"):
            make(images, out, dedup=False)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_what_makes_a_request(images):
    source = folder(images)
    first, *others = source.splits["train"]
    options = {"seed": 0}
    asked = request_digest(source, options)
    assert request_digest(folder(images), dict(options)) == asked
    for changed in (
        [replace(first, label=1), *others],
        [replace(first, label=None), *others],
        [replace(first, key="x"), *others],
        [replace(first, origin="x"), *others],
        [*others, first],
        others,
    ):
        assert request_digest(replace(source, splits={"train": changed}), options) != asked
    for what in ({"name": "x"}, {"kind": "x"}, {"class_ids": ("x", "y", "z")}, {"classes": ("x", "y", "z")}):
        assert request_digest(replace(source, **what), options) != asked
    assert request_digest(replace(source, splits={"val": source.splits["train"]}), options) != asked
    assert request_digest(source, {"seed": 1}) != asked
