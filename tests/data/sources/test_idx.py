"""IDX files' pixels and labels are those that the format says, compressed or not."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from harness.listings import converted, listing

from ccscale.data.sources.idx import FASHION, idx
from ccscale.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = {
    "train": RNG.integers(0, 256, (5, 4, 6), dtype=np.uint8),
    "t10k": RNG.integers(0, 256, (3, 4, 6), dtype=np.uint8),
}
LABELS = {"train": [2, 0, 1, 1, 4], "t10k": [0, 2, 2]}
REAL = Path("/usr/share/datasets/fashion-mnist")


def packed(values: np.ndarray, kind: int = 8) -> bytes:
    """Write an IDX file as the format's page tells."""
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


def images_file(part: str) -> bytes:
    return packed(IMAGES[part])


def labels_file(part: str) -> bytes:
    return packed(np.array(LABELS[part], np.uint8))


def write(root: Path, compressed: bool = False, separator: str = "-", labels: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for part in IMAGES:
        files = {f"{part}-images{separator}idx3-ubyte": images_file(part)}
        if labels:
            files[f"{part}-labels{separator}idx1-ubyte"] = labels_file(part)
        for name, data in files.items():
            if compressed:
                (root / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_round_trip(tmp_path, compressed, separator):
    root = write(tmp_path / "mnist", compressed, separator)
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    manifest, found = converted(idx(root), tmp_path / "out")
    assert (manifest.name, manifest.classes) == ("mnist", ("0", "1", "2", "3", "4"))
    assert manifest.labelled == {"train": 5, "test": 3}
    for split, part in (("train", "train"), ("test", "t10k")):
        file = f"{part}-images{separator}idx3-ubyte{'.gz' if compressed else ''}"
        for number, image in enumerate(IMAGES[part]):
            sample = found.pop(f"{split}-{number:06d}")
            assert (sample.split, sample.label) == (split, LABELS[part][number])
            assert sample.origin == f"{file}[{number}]"
            assert np.array_equal(sample.pixels, image)  # (4, 6): rows and columns cannot be mixed up
    assert found == {}
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before


def test_the_same_bytes_compressed_or_not(tmp_path):
    plain, compressed = idx(write(tmp_path / "a")), idx(write(tmp_path / "b", True))
    for split in ("train", "test"):
        for one, other in zip(plain.splits[split], compressed.splits[split], strict=True):
            assert (one.key, one.content.read()) == (other.key, other.content.read())
            assert len(pickle.dumps(one)) < 800
    both = write(tmp_path / "b")  # as torchvision leaves them
    assert {item.content.path for item in idx(both).splits["train"]} == {
        str(both / "train-images-idx3-ubyte")
    }


def test_colour_images(tmp_path):
    images = RNG.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    (tmp_path / "t10k-images-idx4-ubyte").write_bytes(packed(images))
    _, found = converted(idx(tmp_path), tmp_path / "out")
    assert np.array_equal(np.stack([found[f"test-{n:06d}"].pixels for n in range(2)]), images)


def test_without_labels_or_one_part(tmp_path):
    source = idx(write(tmp_path, labels=False))
    assert source.classes == ()
    assert [label for _, label in listing(source)["train"]] == [None] * 5
    (tmp_path / "train-images-idx3-ubyte").unlink()
    assert list(idx(tmp_path).splits) == ["test"]


def test_class_names(tmp_path):
    root = write(tmp_path / "mnist")
    assert idx(root, classes="zero, one,two,three,four").classes == ("zero", "one", "two", "three", "four")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\nf\n")
    assert idx(root, classes=str(tmp_path / "names.txt")).classes == tuple("abcdef")
    with pytest.raises(InputError, match=r"--classes names 4 classes, and .* has the label 4: name all"):
        idx(root, classes="a,b,c,d")
    for name in ("fashion-mnist", "FashionMNIST/raw"):
        assert idx(write(tmp_path / name)).classes == FASHION
    assert idx(write(tmp_path / "fashion-mnist"), classes="a,b,c,d,e").classes == tuple("abcde")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "train-images-idx3-ubyte",
            images_file("train")[:-1],
            "does not hold the 120 values that its header tells",
        ),
        ("train-images-idx3-ubyte", images_file("train") + b"x", "does not hold the 120 values"),
        ("train-images-idx3-ubyte", b"\x01" + images_file("train")[1:], "is no IDX file"),
        ("train-images-idx3-ubyte", b"", "is no IDX file"),
        ("train-images-idx3-ubyte", images_file("train")[:9], "is cut off in its header"),
        (
            "train-images-idx3-ubyte",
            packed(IMAGES["train"], 13),
            r"values of type 0x0d, not unsigned bytes \(0x08\)",
        ),
        (
            "train-images-idx3-ubyte",
            packed(IMAGES["train"][0]),
            r"has the dimensions \(4, 6\), and images have",
        ),
        (
            "train-images-idx3-ubyte",
            packed(IMAGES["train"][None]),
            r"dimensions \(1, 5, 4, 6\), and images have",
        ),
        ("train-images-idx3-ubyte", packed(IMAGES["train"][:0]), "which are no images"),
        ("train-images-idx3-ubyte", packed(IMAGES["train"][:, :0]), "which are no images"),
        ("train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "which are no images"),
        ("train-labels-idx1-ubyte", labels_file("train")[:-1], "does not hold the 5 values"),
        ("train-labels-idx1-ubyte", labels_file("t10k"), "has 5 images and 3 labels"),
        ("train-labels-idx1-ubyte", images_file("train"), "has 3 dimensions, and labels have 1"),
        (
            "t10k-labels-idx1-ubyte",
            struct.pack(">HBBI", 0, 8, 1, 2**32 - 1),
            "does not hold the 4,294,967,295 values",
        ),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, compressed, name, data, message):
    write(tmp_path, compressed)
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(InputError, match=message):
        idx(tmp_path)


def test_a_damaged_gzip_is_refused(tmp_path):
    write(tmp_path, True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (b"no gzip", whole[:-30], whole[:30] + b"\0\0\0\0" + whole[34:]):
        path.write_bytes(data)
        with pytest.raises(
            InputError, match=r"t10k-images-idx3-ubyte\.gz is damaged or cut off \(.+\): download"
        ):
            idx(tmp_path)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte"):
        idx(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*; SOURCE must be a folder of IDX files"):
        idx(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_real_fashion_mnist(tmp_path):
    if not REAL.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed: no real IDX files here")
    source = idx(REAL)
    assert (source.classes, source.name) == (FASHION, "fashion-mnist")
    with (
        gzip.open(REAL / "t10k-images-idx3-ubyte.gz") as images,
        gzip.open(REAL / "t10k-labels-idx1-ubyte.gz") as labels,
    ):
        pixels = np.frombuffer(images.read()[16:], np.uint8).reshape(10_000, 28, 28)
        expected = np.frombuffer(labels.read()[8:], np.uint8)
    assert len(source.splits.pop("train")) == 60_000
    manifest, found = converted(source, tmp_path / "out", workers=2)
    assert (manifest.labelled, len(found)) == ({"test": 10_000}, 10_000)
    for number in range(10_000):
        sample = found[f"test-{number:06d}"]
        assert sample.label == expected[number]
        assert np.array_equal(sample.pixels, pixels[number])
    assert [source.classes[label] for label in expected[:3]] == ["Ankle boot", "Pullover", "Trouser"]
