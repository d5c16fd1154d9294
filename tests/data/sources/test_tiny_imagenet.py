"""Tiny-ImageNet's splits, labels and names are those of its text files."""

from pathlib import Path

import pytest
from harness.listings import listing, touch

from ccscale.data.sources.tiny_imagenet import tiny_imagenet
from ccscale.errors import InputError


@pytest.fixture
def tiny(tmp_path) -> Path:
    root = touch(
        tmp_path / "tiny",
        "train/n02/images/n02_0.JPEG",
        "train/n02/n02_boxes.txt",
        "train/n01/images/n01_0.JPEG",
        "train/n01/images/n01_1.JPEG",
        "val/images/val_0.JPEG",
        "val/images/val_1.JPEG",
        "test/images/test_0.JPEG",
    )
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\torange\nn03\tentity\n")
    (root / "val/val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"
    )
    return root


def test_tiny_imagenet(tiny):
    source = tiny_imagenet(tiny)
    assert source.classes == ("goldfish", "orange")
    assert source.class_ids == ("n01", "n02")
    assert listing(source) == {
        "train": [
            ("train/n01/images/n01_0", 0),
            ("train/n01/images/n01_1", 0),
            ("train/n02/images/n02_0", 1),
        ],
        "val": [("val/images/val_0", 1), ("val/images/val_1", 0)],
        "test": [("test/images/test_0", None)],
    }


@pytest.mark.parametrize("deep", ["", "images/"])
def test_a_validation_split_that_was_sorted_into_classes(tiny, deep):
    for name, wnid in (("val_0", "n02"), ("val_1", "n01")):
        place = tiny / f"val/{wnid}/{deep}"
        place.mkdir(parents=True)
        (tiny / f"val/images/{name}.JPEG").rename(place / f"{name}.JPEG")
    (tiny / "val/images").rmdir()
    (tiny / "val/val_annotations.txt").unlink()
    expected = [(f"val/n01/{deep}val_1", 0), (f"val/n02/{deep}val_0", 1)]
    assert listing(tiny_imagenet(tiny))["val"] == expected


def test_what_belongs_to_the_layout_is_not_passed_over(tiny):
    assert not tiny_imagenet(tiny).passed.kinds
    touch(tiny, "val/images/readme.md", "train/n01/.hidden", "test/notes.txt")
    assert tiny_imagenet(tiny).passed.kinds == {".md": 1, "hidden": 1, ".txt": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wnids.txt", None, r"is no Tiny-ImageNet: it has no wnids\.txt"),
        ("wnids.txt", "n01\nn02\nn09\n", r"train/n09 holds no images .* extract the archive again"),
        ("val/val_annotations.txt", "val_0.JPEG\tn02\t0\n", r"val/images/val_1\.JPEG has no class"),
        ("val/val_annotations.txt", "val_0.JPEG\tn07\nval_1.JPEG\tn01\n", r"val_0\.JPEG has no class"),
    ],
)
def test_tiny_imagenet_refuses(tiny, name, text, message):
    if text is None:
        (tiny / name).unlink()
    else:
        (tiny / name).write_text(text)
    with pytest.raises(InputError, match=message):
        tiny_imagenet(tiny)
