"""Shards of a folder that grows: what is there stays, what is new is added, and a kill changes nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_images

from ccscale.data.conversion.appending import grow_shards
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify
from ccscale.data.sources.folders import folder
from ccscale.errors import InputError


def take_in(tmp_path: Path, **options):
    return grow_shards(folder(tmp_path / "photos"), tmp_path / "shards", workers=1, **options)


def content(shards: Path) -> dict[str, tuple[bytes, int]]:
    manifest = Manifest.load(shards)
    reader = SampleReader(manifest, list(manifest.splits), origins=True)
    return {reader.origin(i): (reader[i].data, reader[i].label) for i in range(len(reader))}


def tars(shards: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shards.glob("*.tar")}


@pytest.fixture
def first(tmp_path):
    make_images(tmp_path / "photos", 6, classes=2)
    (tmp_path / "photos/class1/broken.jpg").write_bytes(b"no image")
    found = take_in(tmp_path)
    assert (found.new, len(found.rejected), found.gone) == (6, 1, 0)
    return tmp_path


def test_what_is_new_is_added(first):
    """Also where it has a name before the others', in a class of its own, or the same name with another ending."""
    before, made = content(first / "shards"), tars(first / "shards")
    (first / "photos/animals").mkdir()
    shutil.copy(first / "photos/class0/0000.jpg", first / "photos/animals/0000.jpg")
    shutil.copy(first / "photos/class0/0000.jpg", first / "photos/class1/0001.jpeg")
    (first / "photos/class0/0002.jpg").unlink()
    found = take_in(first)
    assert (found.new, len(found.rejected), found.gone) == (2, 1, 1)
    assert found.manifest == Manifest.load(first / "shards")
    assert found.manifest.classes == ("class0", "class1", "animals")
    verify(first / "shards", workers=1)
    after = content(first / "shards")
    assert {origin: after[origin] for origin in before} == before
    assert {origin: after[origin][1] for origin in after.keys() - before.keys()} == {
        "animals/0000.jpg": 2,
        "class1/0001.jpeg": 1,
    }
    now = tars(first / "shards")
    assert {name: now[name] for name in made} == made
    assert take_in(first).new == 0
    assert tars(first / "shards") == now
    assert sorted(path.name for path in (first / "shards").iterdir() if path.is_dir()) == []


@pytest.mark.parametrize("place", ["make_shards", "write_rejected", "Manifest.save"])
def test_killed_and_called_again(first, monkeypatch, place):
    make_images(first / "photos" / "class2", 3, classes=0)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"ccscale.data.conversion.appending.{place}", killed)
        with pytest.raises(KeyboardInterrupt):
            take_in(first)
    assert len(content(first / "shards")) == 6
    shutil.copy(first / "photos/class0/0000.jpg", first / "photos/class0/later.jpg")
    assert take_in(first).new == 4
    verify(first / "shards", workers=1)
    assert len(content(first / "shards")) == 10


def test_nothing_new_that_can_be_read(first, capsys):
    (first / "photos/class0/bad.png").write_bytes(b"no image")
    found = take_in(first)
    assert (found.new, len(found.manifest.shards)) == (0, 1)
    assert "of what is new, none of the 1 images of photos can be read" in capsys.readouterr().err


def test_what_was_measured_of_channels_first_counts_from_then_on(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    photos = tmp_path / "photos"
    photos.mkdir()

    def write(name, value, kind=np.uint16):
        tifffile.imwrite(photos / name, np.full((5, 9, 7), value, kind), photometric="minisblack")

    write("a.tif", 100)
    first = take_in(tmp_path, channels=5).manifest.pixels
    assert (first.type, first.mean) == ("uint16", (100.0,) * 5)
    write("b.tif", 5000)
    found = take_in(tmp_path, channels=5)
    assert (found.new, found.manifest.pixels) == (1, first)
    write("c.tif", 0.5, np.float32)
    with pytest.raises(
        InputError, match="the new images have pixels of type float32, but those before have uint16"
    ):
        take_in(tmp_path, channels=5)
    write("c.tif", 700)
    assert take_in(tmp_path, channels=5).new == 1
