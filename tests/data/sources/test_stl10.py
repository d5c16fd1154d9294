"""STL-10's pixels, labels and names are those of the official binaries."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from harness.listings import converted, listing

from ccscale.data.sources.stl10 import stl10
from ccscale.errors import InputError

NAMES = ["airplane", "bird", "car"]
LABELS = {"train": [3, 1], "test": [2, 2, 1]}
RNG = np.random.default_rng(0)
COUNTS = {"train": 2, "test": 3, "unlabeled": 4}
IMAGES = {split: RNG.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8) for split, count in COUNTS.items()}


def stored(image: np.ndarray) -> bytes:
    """Write out the page's words: red, green, blue, each of them column by column."""
    values = image.tolist()
    return bytes(
        values[row][column][channel] for channel in range(3) for column in range(96) for row in range(96)
    )


@pytest.fixture
def binaries(tmp_path) -> Path:
    root = tmp_path / "stl10_binary"
    root.mkdir()
    for split, images in IMAGES.items():
        (root / f"{split}_X.bin").write_bytes(b"".join(map(stored, images)))
    for split, labels in LABELS.items():
        (root / f"{split}_y.bin").write_bytes(bytes(labels))
    (root / "class_names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (root / "fold_indices.txt").write_text("0 1\n")
    return root


def test_round_trip(binaries, tmp_path):
    before = {path.name: path.read_bytes() for path in binaries.iterdir()}
    manifest, found = converted(stl10(binaries), tmp_path / "out", workers=2, shard_samples=2)
    assert (manifest.name, manifest.classes) == ("stl10", tuple(NAMES))
    assert {split: count for split, (count, _) in manifest.splits.items()} == {
        "train": 2,
        "test": 3,
        "unlabelled": 4,
    }
    assert manifest.labelled == {"train": 2, "test": 3, "unlabelled": 0}
    for part, images in IMAGES.items():
        split = "unlabelled" if part == "unlabeled" else part
        for number, image in enumerate(images):
            sample = found.pop(f"{split}-{number:06d}")
            assert sample.label == (LABELS[part][number] - 1 if part in LABELS else None)
            assert (sample.split, sample.origin) == (split, f"{part}_X.bin[{number}]")
            assert np.array_equal(sample.pixels, image)
    assert found == {}
    assert {path.name: path.read_bytes() for path in binaries.iterdir()} == before


def test_the_unlabelled_part_may_be_missing(binaries):
    whole = listing(stl10(binaries.parent))  # the folder around it does as well
    (binaries / "unlabeled_X.bin").unlink()
    assert listing(stl10(binaries)) == {split: whole[split] for split in ("train", "test")}


def test_items_are_small(binaries):
    items = stl10(binaries).splits["unlabelled"]
    assert len(pickle.dumps(items[0])) < 700
    assert items[0].content.path == str(binaries / "unlabeled_X.bin")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("class_names.txt", None, r"is no STL-10: it has no class_names\.txt; name the folder stl10_binary"),
        ("train_y.bin", None, r"is no STL-10: it has no train_y\.bin"),
        ("test_X.bin", None, r"is no STL-10: it has no test_X\.bin"),
        (
            "test_X.bin",
            bytes(27_648 * 3 - 1),
            r"test_X\.bin has 82,943 bytes, which is no whole number of images",
        ),
        ("unlabeled_X.bin", b"", r"unlabeled_X\.bin has 0 bytes"),
        ("train_y.bin", bytes([1]), r"train_X\.bin has 2 images and 1 labels: extract the archive again"),
        ("train_y.bin", bytes([1, 0]), r"train_y\.bin has the label 0 at byte 1, and labels are 1 to 3"),
        ("test_y.bin", bytes([1, 4, 1]), r"test_y\.bin has the label 4 at byte 1"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(binaries, name, data, message):
    if data is None:
        (binaries / name).unlink()
    else:
        (binaries / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        stl10(binaries)


def test_the_archive_is_refused(tmp_path):
    (tmp_path / "stl10_binary.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"stl10_binary\.tar\.gz is a file, .*: extract the archive first"):
        stl10(tmp_path / "stl10_binary.tar.gz")
