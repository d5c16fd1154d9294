"""Small data sets in the layouts that their publishers give them, with all of their classes: of noise."""

import io
import tarfile
from pathlib import Path

import numpy as np
import tifffile

from ccscale.data.sources.imagenet import SUBSETS
from harness.listings import encoded
from harness.pickle2 import python2_pickle

RNG = np.random.default_rng(0)


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """Return a tar of files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def cifar10(path: Path) -> None:
    """Write ``cifar-10-python.tar.gz``: 10 training images and 10 of the test."""

    def batch(count: int, label: str) -> bytes:
        data = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
        return python2_pickle({"batch_label": label, "labels": list(range(count)), "data": data})

    files = {f"data_batch_{i}": batch(10, f"training batch {i} of 5") for i in range(1, 6)}
    files["test_batch"] = batch(10, "testing batch 1 of 1")
    names = [f"class {i}" for i in range(10)]
    files["batches.meta"] = python2_pickle({"num_cases_per_batch": 10, "label_names": names})
    path.write_bytes(tar_of({f"cifar-10-batches-py/{name}": data for name, data in files.items()}, "w:gz"))


def cifar100(path: Path) -> None:
    """Write ``cifar-100-python.tar.gz``: 100 training images and 100 of the test."""

    def part(label: str) -> bytes:
        data = RNG.integers(0, 256, (100, 3072), dtype=np.uint8)
        fine, coarse = list(range(100)), [i // 5 for i in range(100)]
        return python2_pickle(
            {"batch_label": label, "fine_labels": fine, "coarse_labels": coarse, "data": data}
        )

    fine, coarse = ([f"{kind} {i}" for i in range(count)] for kind, count in (("fine", 100), ("coarse", 20)))
    files = {
        "meta": python2_pickle({"fine_label_names": fine, "coarse_label_names": coarse}),
        "train": part("training batch 1 of 1"),
        "test": part("testing batch 1 of 1"),
    }
    path.write_bytes(tar_of({f"cifar-100-python/{name}": data for name, data in files.items()}, "w:gz"))


def stl10(root: Path) -> None:
    """Write ``stl10_binary``: 10 training images, 10 of the test, 20 unlabelled."""
    root.mkdir()
    for split, count in (("train", 10), ("test", 10), ("unlabeled", 20)):
        (root / f"{split}_X.bin").write_bytes(RNG.bytes(count * 3 * 96 * 96))
        if split != "unlabeled":
            (root / f"{split}_y.bin").write_bytes(bytes(range(1, 11)))
    (root / "class_names.txt").write_text("".join(f"class {i}\n" for i in range(10)))


def imagenet(path: Path, classes: int, images: int = 2) -> None:
    """Write ``ILSVRC2012_img_train.tar``: so many images of each class, those of the known subsets among them."""
    known = [wnid for wnids, _ in SUBSETS.values() for wnid in wnids.split()]
    wnids = sorted({*known, *(f"n9{i:07d}" for i in range(classes - len(set(known))))})
    image = encoded(0, size=(40, 30))
    tars = {f"{wnid}.tar": tar_of({f"{wnid}_{i}.JPEG": image for i in range(images)}) for wnid in wnids}
    path.write_bytes(tar_of(tars))


def tiny_imagenet(root: Path) -> None:
    """Write ``tiny-imagenet-200``: an image of each class in train and val."""
    wnids = [f"n{i:08d}" for i in range(200)]
    image = encoded(0, size=(64, 64))
    for wnid in wnids:
        (root / f"train/{wnid}/images").mkdir(parents=True)
        (root / f"train/{wnid}/images/{wnid}_0.JPEG").write_bytes(image)
    (root / "val/images").mkdir(parents=True)
    for i in range(200):
        (root / f"val/images/val_{i}.JPEG").write_bytes(image)
    lines = "".join(f"val_{i}.JPEG\t{wnid}\t0\t0\t9\t9\n" for i, wnid in enumerate(wnids))
    (root / "val/val_annotations.txt").write_text(lines)
    (root / "wnids.txt").write_text("\n".join(wnids))
    (root / "words.txt").write_text("".join(f"{wnid}\tthing {wnid}\n" for wnid in wnids))


def idx(root: Path) -> None:
    """Write IDX files of 20 training images and 10 of the test, 28x28."""
    root.mkdir()
    for part, count in (("train", 20), ("t10k", 10)):
        images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (root / f"{part}-images-idx3-ubyte").write_bytes(images + RNG.bytes(count * 28 * 28))
        labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(i % 10 for i in range(count))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def cells(root: Path) -> None:
    """Write a folder of 40 TIFFs of five channels of 16 bits, 32x32, in four classes."""
    for i in range(40):
        file = root / f"kind{i % 4}" / f"{i}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = RNG.integers(0, 4096, (5, 32, 32), dtype=np.uint16)
        tifffile.imwrite(file, values, photometric="minisblack", planarconfig="separate")
