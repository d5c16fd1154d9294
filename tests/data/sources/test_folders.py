"""Folders list the right images, splits, classes and labels, and refuse what has two readings."""

import json
import os
import re
from pathlib import Path

import pytest
from harness.listings import converted, encoded, listing, touch

from ccscale.cli.main import main
from ccscale.data.images.extensions import EXTENSIONS
from ccscale.data.shards.keys import unescaped
from ccscale.data.shards.verify import verify
from ccscale.data.sources.folders import folder
from ccscale.errors import InputError


def test_flat_folder_is_unlabelled(tmp_path):
    source = folder(touch(tmp_path / "pets", "b.PNG", "a.jpeg", "notes.txt", ".hidden.jpg", "c.v2.tiff"))
    assert source.name == "pets"
    assert source.classes == ()
    assert listing(source) == {"train": [("a", None), ("b", None), ("c_v2", None)]}
    assert [item.origin for item in source.splits["train"]] == ["a.jpeg", "b.PNG", "c.v2.tiff"]
    assert source.splits["train"][0].content.read() == b"never decoded while listing"


def test_sub_folders_are_classes_however_deep(tmp_path):
    touch(tmp_path, "dog/x.jpg", "cat/2021/a.jpg", "cat/b.jpg", "docs/readme.txt", ".cache/z.jpg")
    source = folder(tmp_path)
    assert source.classes == source.class_ids == ("cat", "dog")  # docs holds no image, .cache is hidden
    assert listing(source) == {"train": [("cat/b", 0), ("cat/2021/a", 0), ("dog/x", 1)]}


def test_split_folders_share_the_union_of_their_classes(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/eel/1.jpg", "Test/dog/1.jpg", "unlabeled/images/1.jpg")
    source = folder(tmp_path)
    assert source.classes == ("cat", "dog", "eel")
    assert listing(source) == {
        "test": [("Test/dog/1", 1)],
        "train": [("train/cat/1", 0), ("train/eel/1", 2)],
        "unlabeled": [("unlabeled/images/1", None)],
    }


def test_split_folders_may_hold_images_directly(tmp_path):
    source = folder(touch(tmp_path, "train/cat/1.jpg", "test/1.jpg"))
    assert listing(source) == {"test": [("test/1", None)], "train": [("train/cat/1", 0)]}


def test_one_other_folder_makes_split_names_classes(tmp_path):
    source = folder(touch(tmp_path, "train/1.jpg", "plane/1.jpg"))
    assert listing(source) == {"train": [("plane/1", 0), ("train/1", 1)]}


def test_split_option_takes_the_whole_folder(tmp_path):
    source = folder(touch(tmp_path, "train/1.jpg", "test/1.jpg"), split="all")
    assert listing(source) == {"all": [("test/1", 0), ("train/1", 1)]}


def test_no_labels_takes_any_nesting(tmp_path):
    source = folder(touch(tmp_path, "top.jpg", "cat/1.jpg"), labels=False)
    assert source.classes == ()
    assert listing(source) == {"train": [("top", None), ("cat/1", None)]}


def test_links_are_followed_but_back(tmp_path):
    store = touch(tmp_path / "store", "photo.jpg")
    images = touch(tmp_path / "images", "cat/1.jpg")
    (images / "cat/2.jpg").symlink_to(store / "photo.jpg")
    (images / "dog").symlink_to(store)
    (images / "cat/3.jpg").symlink_to(tmp_path / "gone.jpg")
    (images / "itself").symlink_to("itself")
    source = folder(images)
    assert listing(source)["train"] == [("cat/1", 0), ("cat/2", 0), ("cat/3", 0), ("dog/photo", 1)]
    assert source.splits["train"][1].content.read() == b"never decoded while listing"
    (images / "cat/loop").symlink_to(images)
    again = folder(images)
    assert listing(again) == listing(source)
    assert str(again.passed).startswith("2 files are passed over (1 linking to a folder around it, 1 without")


def test_folders_that_link_to_each_other(tmp_path):
    touch(tmp_path, "images/a/1.jpg", "images/b/1.jpg", "more/deep/1.jpg")
    (tmp_path / "images/a/b").symlink_to("../b")
    assert len(folder(tmp_path / "images").splits["train"]) == 3  # it is there twice, as the links say
    (tmp_path / "images/b/a").symlink_to("../a")
    names = [item.origin for item in folder(tmp_path / "images").splits["train"]]
    assert names == ["a/1.jpg", "a/b/1.jpg", "b/1.jpg", "b/a/1.jpg"]
    (tmp_path / "images/b/a").unlink()
    (tmp_path / "images/b/more").symlink_to("../../more")
    (tmp_path / "more/deep/back").symlink_to("../../images/b")
    source = folder(tmp_path / "images")
    assert [item.origin for item in source.splits["train"]][-1] == "b/more/deep/1.jpg"
    assert source.passed.first == "a/b/more/deep/back"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["1.jpg", "cat/1.jpg"],
            r"contains both images \(1\.jpg\) and folders of images \(cat\).*--no-labels",
        ),
        (["train/1.jpg", "train/cat/1.jpg"], r"train/ contains both images \(1\.jpg\)"),
        (["readme.txt"], r"contains no images .* check the path; 1 file is passed over \(1 \.txt\)"),
        (
            ["train/1.jpg", "val/1.jpg", "extra/1.jpg"],
            r"splits \(train, val\) and others \(extra\).*--split NAME",
        ),
    ],
)
def test_folder_refuses(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        folder(touch(tmp_path, *names))


def test_folder_refuses_bad_arguments(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--split 'a/b' cannot be used in names of shards"):
        folder(touch(tmp_path, "1.jpg"), split="a/b")


def latin(folder: Path, name: bytes) -> Path:
    """Make a folder in a folder, and return its path."""
    try:
        os.mkdir(os.fsencode(folder) + b"/" + name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return folder / os.fsdecode(name)


def test_names_that_are_not_utf8_are_kept_so_that_they_can_be_had_back(tmp_path):
    root = latin(tmp_path, b"f\xf6ld")
    inside = latin(root, b"caf\xe9")
    for name in (b"\xfc.1.jpg", b"%xFC.jpg", "ü.jpg".encode()):
        with open(os.fsencode(inside) + b"/" + name, "wb") as file:
            file.write(encoded(len(name)))
    source = folder(root)
    assert (source.name, source.classes) == ("f%xF6ld", ("caf%xE9",))
    assert source.renamed == (
        "the names of 3 files are not UTF-8: such bytes are kept as in caf%xE9/%x25xFC.jpg",
    )
    manifest, found = converted(source, tmp_path / "out")
    assert {key: (s.origin, s.data) for key, s in found.items()} == {
        "caf%xE9/%x25xFC": ("caf%xE9/%x25xFC.jpg", encoded(8)),
        "caf%xE9/%xFC_1": ("caf%xE9/%xFC.1.jpg", encoded(7)),
        "caf%xE9/ü": ("caf%xE9/ü.jpg", encoded(6)),
    }
    for item in source.splits["train"]:
        assert f"{root}/{unescaped(item.origin)}" == item.content.path
    assert manifest.name == "f%xF6ld"
    assert verify(tmp_path / "out", workers=1).problems == []
    # What cannot be read is listed by its name, too.
    (inside / os.fsdecode(b"\xfc.1.jpg")).write_bytes(b"")
    converted(folder(root), tmp_path / "other")
    assert (
        "train,caf%xE9/%xFC_1,caf%xE9/%xFC.1.jpg,it has no bytes,"
        in (tmp_path / "other/rejected.csv").read_text()
    )


@pytest.mark.parametrize(
    ("names", "keys", "renamed"),
    [
        (["cat/1.jpg", "cat/1.png", "cat/2.png"], ["cat/1_jpg", "cat/1_png", "cat/2"], 2),
        (["a.b.jpg", "a_b.jpg"], ["a_b_jpg", "a_b_jpg_2"], 2),
        (["p.JPG", "p.jpg"], ["p_JPG", "p_jpg"], 2),
        (["train/p.jpg", "val/p.jpg"], ["train/p", "val/p"], 0),
    ],
)
def test_keys_that_collide_get_their_endings(tmp_path, names, keys, renamed):
    source = folder(touch(tmp_path, *names))
    assert [item.key for items in source.splits.values() for item in items] == keys
    assert [item.origin for items in source.splits.values() for item in items] == names
    why = f"as others have the same names (the first, {names[0]})"
    assert source.renamed == (
        (f"the endings of {renamed} files are in their keys, {why}",) if renamed else ()
    )


def test_what_is_passed_over_is_counted_by_kind(tmp_path):
    touch(
        tmp_path,
        "a/1.jpg",
        "a/Thumbs.db",
        "README.md",
        "a/.hidden.jpg",
        "a/2.ICO",
        "b/.git/x",
        "b/3.ico",
        "b/4.jpg",
    )
    touch(tmp_path, "b/noext", "b/x.€", "b/c.jp2", "__MACOSX/a/._1.jpg")
    os.mkfifo(tmp_path / "b/pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b/link.jpg").symlink_to("../pipe")  # listed: it cannot be read
    (tmp_path / "b/all").symlink_to("..")
    (tmp_path / "b/itself.jpg").symlink_to(tmp_path / "b")
    source = folder(tmp_path)
    assert len(source.splits["train"]) == 3
    assert source.passed.kinds == {
        ".db": 1,
        ".md": 1,
        ".ico": 2,
        ".jp2": 1,
        "hidden": 3,
        "without an ending": 1,
        "of other kinds": 1,
        "special": 2,
        "linking to a folder around it": 2,
    }
    assert source.passed.first == "README.md"


def test_images_of_every_ending_are_taken(tmp_path):
    names = [*EXTENSIONS, "JPEG", "Tiff"]
    assert {"jfif", "jpe", "avif", "heic", "jxl", "pnm"} < set(names)
    source = folder(touch(tmp_path, *(f"{number}.{name}" for number, name in enumerate(names))))
    assert len(source.splits["train"]) == len(names)
    assert not source.passed.kinds


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["1.jpg", "Thumbs.db", "x.txt"],
            r"2 files are passed over \(1 \.db, 1 \.txt\), the first Thumbs\.db, which --strict",
        ),
        (["p.jpg", "p.png"], "the endings of 2 files are in their keys.*, which --strict refuses"),
    ],
)
def test_strict_refuses_and_otherwise_it_is_told(tmp_path, capsys, names, message):
    root = tmp_path / "in"
    for name in names:
        root.mkdir(exist_ok=True)
        (root / name).write_bytes(encoded(0))
    command = ["shards", "make", "folder", str(root), str(tmp_path / "out"), "--workers", "1", "--json"]
    assert main([*command, "--strict"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert re.search(message.partition(", which --strict")[0].removesuffix(".*"), err)
    assert sum(json.loads(out)["passed_over"].values()) == ("Thumbs.db" in names) * 2
