"""Images are listed from folders, files and lists: each once, in a fixed order, with what is no image counted."""

import io
import os
import sys

import pytest
from conftest import make_images

from ccscale.data.file_reader import FileReader
from ccscale.data.sources import listing as module
from ccscale.data.sources.listing import list_images
from ccscale.errors import BadImage, InputError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """`photos/` with two images in it, two in each of two folders, and a letter."""
    make_images(tmp_path / "photos", 2, classes=0)
    make_images(tmp_path / "photos", 4, classes=2)
    (tmp_path / "photos" / "letter.doc").write_text("dear")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_a_folder_with_images_at_any_depth(photos):
    found = list_images(["photos"])
    assert found.names.to_pylist() == [
        f"photos/{name}.jpg"
        for name in ("0000", "0001", "class0/0000", "class0/0002", "class1/0001", "class1/0003")
    ]
    assert found.passed.kinds == {".doc": 1}
    assert found.paths[0].as_py() == os.fsencode(photos / "0000.jpg")


def test_lists_and_files_and_what_is_named_twice(photos, tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("photos/class1/0003.jpg\n\nphotos/gone.jpg\r\n")
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/class0/0002.jpg\nphotos/0001.jpg"))
    )
    found = list_images([f"{photos}/0001.jpg", "list.txt", "-"])
    assert found.names.to_pylist() == [
        f"{photos}/0001.jpg",
        "photos/class1/0003.jpg",
        "photos/gone.jpg",
        "photos/class0/0002.jpg",
    ]
    reader = FileReader(found)
    assert reader[1].data == (photos / "class1/0003.jpg").read_bytes()
    assert reader.origin(2) == str(photos / "gone.jpg")
    with pytest.raises(BadImage, match="the file cannot be read: No such file or directory"):
        reader[2]


def test_names_that_are_no_text(photos):
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_bytes((photos / "0000.jpg").read_bytes())
    found = list_images(["photos"])
    assert found.names.to_pylist()[2] == "photos/caf%xE9.jpg"
    assert FileReader(found)[2].data == (photos / "0000.jpg").read_bytes()


def test_pieces_tell_a_file_that_was_changed(photos, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 4)
    before = list_images(["photos"]).manifest.shards
    assert [(shard.url, shard.nsamples) for shard in before] == [("images-000000", 4), ("images-000001", 2)]
    os.utime(photos / "class1/0003.jpg", ns=(0, 0))
    after = list_images(["photos"]).manifest.shards
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["none"], "there is no file or folder none; --images accepts images, folders and lists"),
        (
            ["photos/letters"],
            "photos/letters: no images found; 1 file is passed over (1 .doc), the first a.doc; check the path",
        ),
    ],
)
def test_refused(photos, places, message):
    (photos / "letters").mkdir()
    (photos / "letters" / "a.doc").write_text("dear")
    with pytest.raises(InputError) as error:
        list_images(places)
    assert str(error.value) == message
