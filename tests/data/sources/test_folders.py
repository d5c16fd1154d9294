"""Folders list the right images, splits, classes and labels, and refuse what has two readings."""

import os

import pytest
from listings import listing, touch

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


def test_links_are_followed_and_loops_refused(tmp_path):
    store = touch(tmp_path / "store", "photo.jpg")
    images = touch(tmp_path / "images", "cat/1.jpg")
    (images / "cat/2.jpg").symlink_to(store / "photo.jpg")
    (images / "dog").symlink_to(store)
    (images / "cat/3.jpg").symlink_to(tmp_path / "gone.jpg")
    source = folder(images)
    assert listing(source)["train"] == [("cat/1", 0), ("cat/2", 0), ("cat/3", 0), ("dog/photo", 1)]
    assert source.splits["train"][1].content.read() == b"never decoded while listing"
    (images / "cat/loop").symlink_to(images)
    with pytest.raises(InputError, match=r"cat/loop links back .* remove the link"):
        folder(images)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/1.jpg", "cat/1.png"], r"cat/1\.jpg and cat/1\.png would both be .*'cat/1'.*rename"),
        (["a.b.jpg", "a_b.jpg"], r"a\.b\.jpg and a_b\.jpg would both be"),
        (["1.jpg", "cat/1.jpg"], r"holds both images \(1\.jpg\) and folders of images \(cat\).*--no-labels"),
        (["train/1.jpg", "train/cat/1.jpg"], r"train/ holds both images \(1\.jpg\)"),
        (["readme.txt"], r"holds no images .* check the path"),
    ],
)
def test_folder_refuses(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        folder(touch(tmp_path, *names))


def test_folder_refuses_bad_arguments(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--split 'a/b' cannot name shards"):
        folder(touch(tmp_path, "1.jpg"), split="a/b")


def test_names_that_are_not_utf8_are_refused(tmp_path):
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(InputError, match=r"caf.* is not valid UTF-8: rename"):
        folder(tmp_path)
