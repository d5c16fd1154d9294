"""Images with the same bytes are left out but for the first, at any number of workers and after any stop."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_images

from ccscale.cli.main import main
from ccscale.data.conversion import duplicates
from ccscale.data.conversion.duplicates import _first_of_each
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.contents import File
from ccscale.data.sources.folders import folder


@pytest.fixture
def images(tmp_path) -> Path:
    """Images of which some are there twice: in a class, in two classes, in two splits, without a label."""
    root = tmp_path / "images"
    for split in ("train", "val"):
        make_images(root / split, 6, size=(12, 9) if split == "train" else (9, 12))

    def copy(old: str, new: str) -> None:
        (root / new).parent.mkdir(exist_ok=True)
        (root / new).write_bytes((root / old).read_bytes())

    copy("train/class0/0000.jpg", "train/class0/z.jpg")
    copy("train/class0/0000.jpg", "train/class2/again.png")
    copy("train/class1/0001.jpg", "val/class1/same.jpg")
    copy("val/class2/0002.jpg", "test/0.jpg")
    (root / "train/class1/broken.jpg").write_bytes(b"no image")
    (root / "val/class1/broken2.jpg").write_bytes(b"no image")
    for name in ("gone1.jpg", "gone2.jpg"):
        (root / "train/class2" / name).symlink_to(tmp_path / "nowhere")
    return root


def make(images: Path, out: Path, **options) -> Manifest:
    return make_shards(
        folder(images), out, **{"dedup": True, "shard_samples": 4, "workers": 1, "progress": False, **options}
    )


def keys(manifest: Manifest) -> set[str]:
    return {key for shard in manifest.shards for key in read_index(manifest, shard).keys}


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_the_first_is_kept(images, tmp_path):
    made = make(images, tmp_path / "out")
    with open(tmp_path / "out/duplicates.csv", newline="") as file:
        lines = list(csv.reader(file))
    # The splits come in the order test, train, val.
    assert lines == [
        ["split", "key", "origin", "same_as", "conflict"],
        ["train", "train/class0/z", "train/class0/z.jpg", "train/class0/0000", ""],
        [
            "train",
            "train/class2/again",
            "train/class2/again.png",
            "train/class0/0000",
            "class2, kept as class0",
        ],
        ["val", "val/class1/broken2", "val/class1/broken2.jpg", "train/class1/broken", ""],
        ["val", "val/class1/same", "val/class1/same.jpg", "train/class1/0001", ""],
        ["val", "val/class2/0002", "val/class2/0002.jpg", "test/0", ""],
    ]
    everything = {item.key for items in folder(images).splits.values() for item in items}
    unreadable = {"train/class1/broken", "train/class2/gone1", "train/class2/gone2"}
    assert keys(made) == everything - {line[1] for line in lines} - unreadable
    assert made.made_by["rejected"] == 3
    assert (made.made_by["duplicates"], made.made_by["conflicting_labels"]) == (5, 1)
    assert made.made_by["options"]["dedup"] is True


def test_without_the_option_all_are_kept(images, tmp_path):
    made = make(images, tmp_path / "out", dedup=False)
    assert len(keys(made)) == 16
    assert "duplicates" not in made.made_by
    assert not (tmp_path / "out/duplicates.csv").exists()


def test_the_same_at_any_number_of_workers(images, tmp_path, monkeypatch):
    make(images, tmp_path / "one")
    monkeypatch.setattr(duplicates, "CHUNK", 3)
    make(images, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_was_hashed_is_not_read_again(images, tmp_path, monkeypatch):
    make(images, tmp_path / "unbroken")
    monkeypatch.setattr(duplicates, "CHUNK", 5)
    read: list[str] = []

    def stopping(self: File) -> bytes:
        read.append(self.path)
        if len(read) == 13:
            raise KeyboardInterrupt
        return Path(self.path).read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(File, "read", stopping)
        with pytest.raises(KeyboardInterrupt):
            make(images, tmp_path / "out")
        first = read[:10]  # two chunks are whole
        read[:] = ["nothing"] * 20
        make(images, tmp_path / "out")
    hashed = read[20:30]
    assert len({*first, *hashed}) == 20
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")


def test_first_of_each_against_brute_force():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 300):
        # Words that differ in one place only, so that each word matters.
        words = np.zeros((count, 4), ">u8")
        words[np.arange(count), rng.integers(0, 4, count)] = rng.integers(0, 8, count)
        rows = [bytes(row) for row in words]
        expected = [i if row == duplicates.UNREADABLE else rows.index(row) for i, row in enumerate(rows)]
        assert _first_of_each(words.tobytes()).tolist() == expected


def test_the_command(images, tmp_path, capsys):
    command = ["shards", "make", "folder", str(images), "--dedup", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["samples"], facts["duplicates"], facts["conflicting_labels"]) == (12, 5, 1)
    assert "looking for duplicates: 20 of 20 images" in err
    csv_file = tmp_path / "out/duplicates.csv"
    assert f"5 images repeat the bytes of others, 1 of them under another label: see {csv_file}\n" in err
