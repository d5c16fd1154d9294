"""CIFAR's pixels, labels and names are those of the official python files."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from harness.listings import converted
from harness.pickle2 import python2_pickle

from ccscale.data.sources.cifar import cifar10, cifar100
from ccscale.errors import InputError

NAMES_10 = ["airplane", "automobile", "bird", "cat"]
FINE, COARSE = ["apple", "aquarium_fish", "baby"], ["aquatic_mammals", "fish"]
CASES = 3  # images a batch
RNG = np.random.default_rng(0)
IMAGES = {
    name: RNG.integers(0, 256, (CASES, 32, 32, 3), dtype=np.uint8)
    for name in ["1", "2", "3", "4", "5", "test"]
}
LABELS = {"1": [3, 0, 1], "2": [1, 1, 2], "3": [0, 0, 0], "4": [2, 3, 1], "5": [3, 3, 0], "test": [2, 0, 3]}


def rows(images: np.ndarray) -> np.ndarray:
    """Lay pixels out as CIFAR's page tells: 1,024 red values row by row, then green, then blue."""
    return np.stack([np.concatenate([image[:, :, c].ravel() for c in range(3)]) for image in images])


def files10() -> dict[str, bytes]:
    files = {}
    for name, images in IMAGES.items():
        label = "testing batch 1 of 1" if name == "test" else f"training batch {name} of 5"
        content = {
            "batch_label": label,
            "labels": LABELS[name],
            "data": rows(images),
            "filenames": [f"bird_s_{number:06d}.png" for number in range(CASES)],
        }
        files["test_batch" if name == "test" else f"data_batch_{name}"] = python2_pickle(content)
    files["batches.meta"] = python2_pickle(
        {"num_cases_per_batch": CASES, "label_names": NAMES_10, "num_vis": 3072}
    )
    files["readme.html"] = b"<html>"
    return files


def files100() -> dict[str, bytes]:
    def part(name: str, fine: list[int], coarse: list[int]) -> bytes:
        label = {"train": "training", "test": "testing"}[name] + " batch 1 of 1"
        images = IMAGES["1" if name == "train" else "test"]
        return python2_pickle(
            {
                "filenames": ["a.png"] * CASES,
                "batch_label": label,
                "fine_labels": fine,
                "coarse_labels": coarse,
                "data": rows(images),
            }
        )

    return {
        "meta": python2_pickle({"fine_label_names": FINE, "coarse_label_names": COARSE}),
        "train": part("train", [2, 0, 1], [1, 0, 1]),
        "test": part("test", [1, 1, 0], [1, 1, 0]),
        "file.txt~": b"",
    }


def extracted(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir(parents=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def archived(path: Path, folder: str, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        info = tarfile.TarInfo(folder)
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sources10(tmp_path: Path) -> list[Path]:
    folder = extracted(tmp_path / "data/cifar-10-batches-py", files10())
    return [
        archived(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files10()),
        archived(tmp_path / "cifar-10-python.tar", "cifar-10-batches-py", files10(), "w"),
        folder,
        folder.parent,
    ]


def test_cifar10_round_trip_from_archive_and_folders(tmp_path):
    for number, path in enumerate(sources10(tmp_path)):
        manifest, found = converted(cifar10(path), tmp_path / f"out{number}")
        assert (manifest.name, manifest.classes, manifest.class_ids) == (
            "cifar10",
            tuple(NAMES_10),
            tuple(NAMES_10),
        )
        assert manifest.splits == {"train": (15, 1), "test": (3, 1)}
        for place, (name, images) in enumerate(IMAGES.items()):
            for row, image in enumerate(images):
                split, key = (
                    ("test", f"test-{row:06d}")
                    if name == "test"
                    else ("train", f"train-{place * CASES + row:06d}")
                )
                stored = found.pop(key)
                batch = "test_batch" if name == "test" else f"data_batch_{name}"
                assert (stored.split, stored.label, stored.origin) == (
                    split,
                    LABELS[name][row],
                    f"{batch}[{row}]",
                )
                assert (stored.extension, stored.pixels.shape) == ("png", (32, 32, 3))
                assert np.array_equal(stored.pixels, image)
        assert found == {}


@pytest.mark.parametrize(
    ("coarse", "names", "train", "test"),
    [(False, FINE, [2, 0, 1], [1, 1, 0]), (True, COARSE, [1, 0, 1], [1, 1, 0])],
)
def test_cifar100_round_trip(tmp_path, coarse, names, train, test):
    path = archived(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", files100())
    before = path.read_bytes()
    manifest, found = converted(cifar100(path, coarse=coarse), tmp_path / "out")
    assert manifest.classes == tuple(names)
    for split, labels, images in (("train", train, IMAGES["1"]), ("test", test, IMAGES["test"])):
        for row, (label, image) in enumerate(zip(labels, images, strict=True)):
            stored = found[f"{split}-{row:06d}"]
            assert (stored.label, stored.origin) == (label, f"{split}[{row}]")
            assert np.array_equal(stored.pixels, image)
    assert len(found) == 6
    assert path.read_bytes() == before


def test_fine_labels_are_the_default(tmp_path):
    assert cifar100(extracted(tmp_path / "cifar-100-python", files100())).classes == tuple(FINE)


def test_an_item_sends_its_own_pixels_alone(tmp_path):
    items = cifar10(extracted(tmp_path / "a", files10())).splits["train"]
    assert len(pickle.dumps(items[0])) < 3072 + 600


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_file_is_refused_and_not_run(tmp_path):
    files = files10() | {"data_batch_3": pickle.dumps({b"labels": [], b"data": Evil(tmp_path / "owned")}, 2)}
    path = archived(tmp_path / "a.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(
        InputError, match=r"data_batch_3 asks for \w+\.system, which no file of images needs, and was not run"
    ):
        cifar10(path)
    assert not (tmp_path / "owned").exists()
    os.system(f"touch {tmp_path}/owned")  # the call itself would have worked
    assert (tmp_path / "owned").exists()


def batch(**changes) -> bytes:
    return python2_pickle({"labels": [0, 1, 2], "data": rows(IMAGES["1"])} | changes)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("batches.meta", None, r"lacks batches\.meta: name cifar-10-python\.tar\.gz \(the python version\)"),
        ("data_batch_4", None, r"lacks data_batch_4: name cifar-10-python\.tar\.gz"),
        ("data_batch_1", files10()["data_batch_1"][:5000], r"data_batch_1 is no pickle, or it is damaged"),
        ("data_batch_1", b"\x80\x02K\x01.", "data_batch_1 holds no dictionary"),
        ("data_batch_1", batch(labels=[0, 1]), "data_batch_1 has 3 images and 2 labels"),
        (
            "data_batch_1",
            batch(labels=[0, 1, 4]),
            "data_batch_1 has the label 4 in row 2, and there are 4 classes",
        ),
        ("data_batch_1", batch(labels=[0, -1, 2]), "data_batch_1 has the label -1 in row 1"),
        ("data_batch_1", batch(labels="abc"), "data_batch_1 has no list of numbers 'labels'"),
        ("data_batch_1", batch(data=rows(IMAGES["1"])[:, :-1]), "has no data of 3,072 bytes an image"),
        ("data_batch_1", batch(data=rows(IMAGES["1"]).astype("<i2")), "has no data of 3,072 bytes an image"),
        (
            "data_batch_1",
            batch(labels=[0], data=rows(IMAGES["1"][:1])),
            r"data_batch_1 holds 1 images and not 3, as batches\.meta says",
        ),
        ("batches.meta", python2_pickle({"num_cases_per_batch": 3}), "the meta file has no label_names"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, name, data, message):
    files = files10() | {name: data}
    if data is None:
        del files[name]
    with pytest.raises(InputError, match=message):
        cifar10(extracted(tmp_path / "in", files))


def test_bad_archives_are_refused_in_a_sentence(tmp_path):
    whole = archived(tmp_path / "a.tar.gz", "cifar-10-batches-py", files10()).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar.gz").write_text("not a tar")
    (tmp_path / "damaged.tar.gz").write_bytes(whole[:9000] + bytes(64) + whole[9064:])
    for name in ("cut", "text", "damaged"):
        with pytest.raises(
            InputError, match=rf"{name}\.tar\.gz is no tar archive, or it is damaged .* again"
        ):
            cifar10(tmp_path / f"{name}.tar.gz")
    other = archived(tmp_path / "100.tar.gz", "cifar-100-python", files100())
    with pytest.raises(InputError, match=r"lacks batches\.meta, data_batch_1, .*: name cifar-10-python"):
        cifar10(other)
    with pytest.raises(InputError, match=r"lacks meta, train, test: name cifar-100-python\.tar\.gz"):
        cifar100(tmp_path / "a.tar.gz")
