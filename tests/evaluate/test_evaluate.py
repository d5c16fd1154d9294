"""``ccscale evaluate``: what it tells, what it leaves in the run's folder; the tree, and `predict` by it."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.pictures import picture, save
from harness.ranks import run_ranks
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.basis import KEY, Basis
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.how_many import read_advice
from ccscale.evaluate.merge_tree import TREE, read_tree
from ccscale.evaluate.metrics import scores

K = 6


def on_rank(rank: int, run: str, options: dict[str, Any]) -> dict[str, Any] | None:
    return evaluate_run(run, device="cpu", workers=0, **options)


def command(*arguments: str | Path) -> list[str]:
    return [*map(str, arguments), "--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory) -> Path:
    """A run's folder that is written to."""
    return Path(shutil.copytree(run, tmp_path_factory.mktemp("evaluated") / "run"))


@pytest.fixture(scope="module")
def result(folder) -> dict[str, Any]:
    found = on_rank(0, str(folder), {"merge": "backbone", "how_many": "instance"})
    assert found is not None
    return found


def test_files(folder, result):
    made = ("assignments.parquet", "features.npz", "evaluation.json", "merge.json", "merge.png")
    assert {*made, "how-many.json", "how-many.png"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.part*s"))
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(result))
    table = pq.read_table(folder / "assignments.parquet")
    columns = ["key", "origin", "cluster", "confidence", "second", "second_confidence", "label"]
    assert table.column_names == columns
    with np.load(folder / "features.npz") as arrays:
        assert arrays["rows"].tolist() == list(range(150))
        assert arrays["features"].shape == (150, 96)
    with Image.open(folder / "merge.png") as picture:
        assert picture.width > 640


def test_all_files_tell_what_they_were_made_of(folder, result, manifest):
    weights = next((folder / "checkpoints").glob("step-*2")) / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    basis = Basis(2, digest, ("train",), manifest.digest(["train"]))
    assert Basis.parse(result["basis"]) == basis
    assert Basis.parse(pq.read_schema(folder / "assignments.parquet").metadata[KEY]) == basis
    for name in ("evaluation.json", "merge.json", "how-many.json"):
        assert Basis.parse(json.loads((folder / name).read_text())["basis"]) == basis
    with np.load(folder / "features.npz") as arrays:
        assert Basis.parse(str(arrays["basis"])) == basis


def test_figures_are_those_of_the_table(folder, result):
    table = pq.read_table(folder / "assignments.parquet")
    clusters, labels = table["cluster"].to_numpy(), table["label"].to_numpy()
    assert result["sizes"] == np.bincount(clusters, minlength=K).tolist()
    expected = scores(clusters.astype(np.int64), labels.astype(np.int64), K)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    confusion = np.zeros((K, 3), dtype=int)
    cells = result["confusion"]
    confusion[cells["cluster"], cells["label"]] = cells["count"]
    both = np.zeros((K, 3), dtype=int)
    np.add.at(both, (clusters, labels), 1)
    assert confusion.tolist() == both.tolist()
    assert result["per_cluster"]["size"] == result["sizes"]
    assert 0 <= result["stability"]["agreement"] <= 1
    assert result["stability"]["views"] == result["probed"] == 150
    assert set(result["k_means_instance"]) == set(result["k_means"]) == set(expected)
    assert 0 <= result["knn"]["acc"] <= 1


@pytest.mark.dist
def test_two_ranks_find_the_same(run, result, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    first, other = run_ranks(2, on_rank, str(copy), {"merge": "backbone"})
    assert other is None
    assert first["sizes"] == result["sizes"]
    for name in ("acc", "nmi", "information", "confidence"):
        assert first[name] == pytest.approx(result[name], abs=1e-6)
    assert first["stability"] == pytest.approx(result["stability"], abs=1e-6)
    assert [cut["clusters"] for cut in first["cuts"]] == [cut["clusters"] for cut in result["cuts"]]
    assert len(pq.read_table(copy / "assignments.parquet")) == 150


def test_advice_on_the_number_of_clusters(folder, result):
    """It stays with the run as long as it is of the same network and images."""
    advice = result["how_many"]
    assert advice["features"] == "instance"
    assert advice["low"] <= advice["clusters"] <= advice["high"]
    assert json.loads((folder / "how-many.json").read_text()) == json.loads(json.dumps(advice))
    assert read_advice(folder, Basis.parse(result["basis"])) == json.loads(json.dumps(advice))
    assert read_advice(folder, replace(Basis.parse(result["basis"]), step=7)) is None


def test_cuts(folder, result):
    """The figures of a cut are those of the table whose clusters are joined."""
    used = sum(size > 0 for size in result["sizes"])
    assert [cut["clusters"] for cut in result["cuts"]] == list(range(used, 1, -1))
    table = pq.read_table(folder / "assignments.parquet")
    clusters, labels = table["cluster"].to_numpy(), table["label"].to_numpy().astype(np.int64)
    for cut in result["cuts"]:
        groups = read_tree(folder, result["step"], result["basis"]["weights"]).groups(cut["clusters"])
        expected = scores(groups[clusters], labels, cut["clusters"])
        assert {name: cut[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert 0 <= cut["share"] <= 1
    assert [cut["joined_at"] is None for cut in result["cuts"]] == [
        cut["clusters"] == K for cut in result["cuts"]
    ]


def test_predict_merged(folder, result, shards, tmp_path):
    assert (
        main(command("predict", folder, "--shards", shards, "--out", tmp_path / "t.parquet", "--merged", 2))
        == 0
    )
    before = pq.read_table(folder / "assignments.parquet")["cluster"].to_numpy()
    found = pq.read_table(tmp_path / "t.parquet")["cluster"].to_numpy()
    tree = read_tree(folder, result["step"], result["basis"]["weights"])
    assert tree.notes == ()
    assert found.tolist() == tree.groups(2)[before].tolist()


def test_merge_for_people_and_without_labels(folder, shards, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "run")
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(images / f"{i}.png")
    assert main(["shards", "make", "folder", str(images), str(tmp_path / "shards"), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(command("evaluate", copy, "--shards", tmp_path / "shards", "--merge", "instance")) == 0
    out, err = capsys.readouterr()
    assert "note: these are shards of the data set 'images'; the run was trained on 'folder'" in err
    assert "There are no labels: ACC, NMI, ARI and F cannot be measured." in out
    assert "two views of an image are in the same cluster for" in out
    assert f"merge tree: {copy}/merge.png" in out
    tree = json.loads((copy / TREE).read_text())
    assert (tree["features"], tree["own"]) == ("instance", False)
    # A tree of other images serves, and it is said.
    assert (
        main(command("predict", copy, "--shards", shards, "--out", tmp_path / "t.csv", "--merged", "2")) == 0
    )
    note = f"note: the clusters are merged by a tree of the images of {tmp_path}/shards (train)"
    assert note in capsys.readouterr().err


def test_neighbours_in_another_split(folder, pets, tmp_path, capsys):
    assert main(["shards", "make", "folder", str(pets), str(tmp_path / "shards"), "--workers", "1"]) == 0
    arguments = ["evaluate", folder, "--shards", tmp_path / "shards", "--split", "val", "--json"]
    capsys.readouterr()
    assert main(command(*arguments, "--neighbours", "train")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["probed"]) == (7, 7)
    assert found["knn"]["acc"] in [i / 7 for i in range(8)]


def test_neighbours_in_a_split_that_is_evaluated_too(folder, tmp_path, capsys):
    """Whether it is all that is evaluated, or a part of it: no image votes for itself."""
    for i in range(12):  # each the only one of its class: no other can tell it
        save(tmp_path / f"alone/{'train' if i < 6 else 'val'}/class{i}/{i}.png", picture(i))
    assert (
        main(
            ["shards", "make", "folder", str(tmp_path / "alone"), str(tmp_path / "shards"), "--workers", "1"]
        )
        == 0
    )
    arguments = ["evaluate", folder, "--shards", tmp_path / "shards", "--json", "--neighbours", "val"]

    def found(*splits):
        capsys.readouterr()
        chosen = [part for split in splits for part in ("--split", split)]
        assert main(command(*arguments, *chosen)) == 0
        return json.loads(capsys.readouterr().out)["knn"]["acc"]

    assert found("val") == 0
    assert found("train", "val") == 0


def test_a_split_without_labels_has_no_score(folder, pets, tmp_path, capsys):
    assert main(["shards", "make", "folder", str(pets), str(tmp_path / "shards"), "--workers", "1"]) == 0
    arguments = [
        "evaluate",
        folder,
        "--shards",
        tmp_path / "shards",
        "--split",
        "val",
        "--neighbours",
        "test",
    ]
    capsys.readouterr()
    assert main(command(*arguments)) == 0
    out, err = capsys.readouterr()
    assert "k-means on features" in out
    assert "nearest neighbours" not in out
    assert "note: there are no nearest neighbours with a label in the split 'test'" in err
    assert main(command(*arguments, "--json")) == 0
    assert "knn" not in json.loads(capsys.readouterr().out)


def spoil(shards: Path, labelled: bool) -> None:
    """Overwrite all images of a data set, or those that have a label (or have none)."""
    manifest = Manifest.load(shards)
    for shard in manifest.shards:
        index = read_index(manifest, shard)
        with open(manifest.locate(shard), "r+b") as file:
            for offset, size, label in zip(index.offsets, index.sizes, index.labels, strict=True):
                if labelled or label < 0:
                    file.seek(int(offset))
                    file.write(bytes(int(size)))


def test_images_that_cannot_be_decoded_are_not_images_without_labels(folder, pets, tmp_path, capsys):
    assert main(["shards", "make", "folder", str(pets), str(tmp_path / "shards"), "--workers", "1"]) == 0
    spoil(tmp_path / "shards", labelled=True)
    arguments = [folder, "--shards", tmp_path / "shards", "--split", "val"]
    capsys.readouterr()
    assert main(command("evaluate", *arguments, "--merge")) == 2
    out, err = capsys.readouterr()
    assert "None of the images can be decoded: ACC, NMI, ARI and F cannot be measured." in out
    assert "There are no labels" not in out
    assert err.endswith("error: none of 7 images can be decoded; are these images?\n")
    for out_name in ("t.parquet", "parts/"):
        assert main(command("predict", *arguments, "--out", f"{tmp_path}/{out_name}")) == 2
        out, err = capsys.readouterr()
        assert out == f"{tmp_path}/{out_name}: 0 images in 6 clusters\n"
        assert err.endswith("error: none of 7 images can be decoded; are these images?\n")
    assert pq.read_table(tmp_path / "t.parquet")["cluster"].null_count == 7


# Markup of rich, an emoji's code, a formula, what ends a line or clears a terminal.
ODD_NAMES = ("[/new]", "[red]shoe", ":car:", "=1+1", "two\nlines", "\x1b[2J")


def test_names_are_no_markup(folder, tmp_path, capsys):
    """In tables and pictures."""
    for number in range(len(ODD_NAMES)):
        for i in range(3):
            save(tmp_path / f"odd/{number}/{i}.png", picture(10 * number + i))
    shards = tmp_path / "shards"
    assert main(["shards", "make", "folder", str(tmp_path / "odd"), str(shards), "--workers", "1"]) == 0
    replace(Manifest.load(shards), classes=ODD_NAMES).save()
    capsys.readouterr()
    assert main(["shards", "info", str(shards), "--preview", str(tmp_path / "preview.png")]) == 0
    out = capsys.readouterr().out
    copy = shutil.copytree(folder, tmp_path / "run")
    assert main(command("evaluate", copy, "--shards", shards, "--merge")) == 0
    told = capsys.readouterr()
    shown = ["[/new]", "[red]shoe", ":car:", "=1+1", r"two\nlines", r"\x1b[2J"]
    for name in shown:
        assert f" {name} " in out
    assert any(f" {name} " in told.out for name in shown)
    assert "\x1b" not in out + told.out + told.err


def test_labels_that_are_missing_are_noted(folder, pets, tmp_path, capsys):
    assert main(["shards", "make", "folder", str(pets), str(tmp_path / "shards"), "--workers", "1"]) == 0
    assert main(command("evaluate", folder, "--shards", tmp_path / "shards", "--no-probes")) == 0
    err = capsys.readouterr().err
    assert "note: 5 of 32 images have no label; the scores are over the other 27" in err


class TestRefused:
    @pytest.mark.parametrize(
        ("damage", "expected"),
        [
            (lambda tree: {**tree, "step": 1}, "is of step 1, but the checkpoint is of step 2"),
            (lambda tree: [], "cannot be read"),
            (lambda tree: {**tree, "basis": None}, "does not say which network it belongs to"),
            (
                lambda tree: tree | {"basis": tree["basis"] | {"weights": "0" * 64}},
                "is of another network of step 2 than the checkpoint; ",
            ),
            (lambda tree: tree, "--merged 9: this run's 6 clusters can be merged to 1 to 6"),
        ],
    )
    def test_tree(self, folder, result, shards, tmp_path, refused, damage, expected):
        copy = shutil.copytree(folder, tmp_path / "run")
        (copy / TREE).write_text(json.dumps(damage(json.loads((copy / TREE).read_text()))))
        options = ["--shards", shards, "--out", tmp_path / "t.csv", "--merged", "9", "--workers", "0"]
        assert expected in refused("predict", copy, *options)
