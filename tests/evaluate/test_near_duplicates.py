"""``ccscale duplicates``: pairs, groups and what stays, from features that are known to be alike."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.stores import make_store
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.features.near_pairs import groups_of, near_pairs
from ccscale.features.neighbours import find_neighbours

ALIKE = [(0, 10), (10, 20), (3, 30)]


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    made = rng.standard_normal((60, 32)).astype(np.float32)
    for first, second in ALIKE:
        made[second] = made[first] + 0.05 * rng.standard_normal(32)
    return made


@pytest.fixture
def images(tmp_path):
    """60 images as shards; the tenth is larger than those it is like."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(60):
        side = 40 if number == 10 else 20
        Image.new("RGB", (side, side), (4 * number, 0, 0)).save(folder / f"{number:03d}.png")
    assert main(["shards", "make", "folder", str(folder), str(tmp_path / "shards"), "--workers", "1"]) == 0
    return Manifest.load(str(tmp_path / "shards"))


def found(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert main(["duplicates", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_pairs_and_groups(tmp_path, features):
    store = make_store(tmp_path / "store", features)
    find_neighbours(store, 8, show=False)
    store = type(store)(store.folder)
    pairs = near_pairs(store, 0.97)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        (0, 10),
        (0, 20),
        (3, 30),
        (10, 20),
    ]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(pairs.cosines, (unit[pairs.first] * unit[pairs.second]).sum(1), atol=1e-6)
    assert [group.tolist() for group in groups_of(pairs, 60)] == [[0, 10, 20], [3, 30]]
    assert not len(pairs.crowded)
    assert groups_of(near_pairs(store, 1.01), 60) == []


def test_with_the_images(tmp_path, features, images, capsys):
    """The image of the most pixels stays; the shards have them in an order of their own."""
    reader = SampleReader(images, ["train"], origins=True)
    numbers = [int(Path(reader.origin(row) or "").stem) for row in range(60)]
    store = make_store(tmp_path / "store", features[numbers], manifest=images)
    result = found(capsys, store.folder, "--above", 0.97)
    assert (result["pairs"], result["groups"], result["left_out"], result["crowded"]) == (4, 2, 3, 0)
    folder = tmp_path / "store" / "duplicates"
    groups = pq.read_table(folder / "groups.parquet").to_pylist()
    own = [int(Path(row["origin"]).stem) for row in groups]
    assert [own[:3], own[3:]] == [sorted([0, 10, 20], key=numbers.index), sorted([3, 30], key=numbers.index)]
    assert [number for number, row in zip(own, groups, strict=True) if row["kept"]] == [10, own[3]]
    assert {number: row["width"] for number, row in zip(own, groups, strict=True)} == {
        number: 40 if number == 10 else 20 for number in own
    }
    assert [row["cosine"] > 0.97 for row in groups] == [True] * 5
    assert all(row["cosine"] == pytest.approx(1) for row in groups if row["kept"])
    pairs = pq.read_table(folder / "pairs.parquet").to_pylist()
    assert all(row["key"] == f"key-{numbers.index(int(Path(row['origin']).stem)):08d}" for row in pairs)
    out = {f"key-{numbers.index(number):08d}" for number in own if number not in (10, own[3])}
    assert set(store.keys.to_pylist()) - set((folder / "keep.txt").read_text().split()) == out
    assert Image.open(folder / "duplicates.png").width > 100
    found(capsys, store.folder, "--above", 0.97, "--keep", "order", "--out", tmp_path / "other")
    groups = pq.read_table(tmp_path / "other" / "groups.parquet").to_pylist()
    assert [row["kept"] for row in groups] == [True, False, False, True, False]


def test_without_the_images(tmp_path, features, capsys):
    """Where the shards are gone, the first of each group stays, and it is told."""
    store = make_store(tmp_path / "store", features)
    assert main(["duplicates", str(store.folder), "--above", "0.97", "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "4 pairs of 60 images have a cosine of" in " ".join(captured.out.split())
    assert "the first image of each group is kept" in captured.err
    assert not (tmp_path / "out" / "duplicates.png").exists()
    groups = pq.read_table(tmp_path / "out" / "groups.parquet").to_pylist()
    assert [row["key"] for row in groups if row["kept"]] == ["key-00000000", "key-00000003"]
    assert {row["width"] for row in groups} == {None}
    assert main(["duplicates", str(store.folder), "--shards", str(tmp_path)]) == 2
    capsys.readouterr()
    assert main(["duplicates", str(store.folder)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_nothing_alike(tmp_path, capsys):
    store = make_store(tmp_path / "store", np.eye(60, dtype=np.float32))
    result = found(capsys, store.folder, "--above", 0.97)
    assert (result["pairs"], result["groups"], result["left_out"]) == (0, 0, 0)
    assert pq.read_table(tmp_path / "store" / "duplicates" / "groups.parquet").num_rows == 0


def test_more_alike_than_there_are_neighbours(tmp_path, capsys):
    """Sixty images that are one: all hang together by the fifty that are known of each, and it is told."""
    store = make_store(tmp_path / "store", np.ones((60, 4), np.float32))
    assert main(["duplicates", str(store.folder), "--above", "0.97"]) == 0
    captured = capsys.readouterr()
    assert "1 group; leaving out 59 images" in " ".join(captured.out.split())
    assert "all 50 neighbours of 60 images are near-duplicates" in captured.err
    assert "--neighbours 200" in captured.err


def test_no_cosine(tmp_path, features, capsys):
    store = make_store(tmp_path / "store", features)
    assert main(["duplicates", str(store.folder), "--above", "97"]) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1] == "error: --above is 97.0: give a cosine above 0, at most 1"
    )


def test_copies_that_look_alike(tmp_path, capsys):
    """Encoded again, half the size, grey, cropped; with features that say little; another picture is none."""
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(
        (80, 80), Image.Resampling.BICUBIC
    )
    other = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(
        (80, 80), Image.Resampling.BICUBIC
    )
    folder = tmp_path / "images"
    folder.mkdir()
    coarse.save(folder / "0.png")
    coarse.save(folder / "1.jpg", quality=50)
    coarse.resize((40, 40)).save(folder / "2.png")
    coarse.convert("L").save(folder / "3.png")
    coarse.crop((8, 0, 80, 72)).save(folder / "4.png")
    other.save(folder / "5.png")
    Image.new("RGB", (80, 80)).save(folder / "6.png")
    assert main(["shards", "make", "folder", str(folder), str(tmp_path / "shards"), "--workers", "1"]) == 0
    features = np.ones((7, 8), np.float32) + 0.3 * rng.standard_normal((7, 8)).astype(np.float32)
    manifest = Manifest.load(str(tmp_path / "shards"))
    store = make_store(tmp_path / "store", features, manifest=manifest)
    find_neighbours(store, 6, show=False)
    result = found(capsys, store.folder)
    assert (result["groups"], result["left_out"], result["above"]) == (1, 4, None)
    groups = pq.read_table(tmp_path / "store" / "duplicates" / "groups.parquet").to_pylist()
    assert sorted(Path(row["origin"]).stem for row in groups) == ["0", "1", "2", "3", "4"]
    assert [row["width"] for row in groups if row["kept"]] == [80]
