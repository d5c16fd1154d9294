"""From a folder to its clusters: all files, a row for each image, and a second call that goes on."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
from conftest import make_images
from harness.small_sources import cells
from safetensors.torch import save_file

from ccscale.cli.main import main
from ccscale.config.file import load_config
from ccscale.features.store import open_features
from ccscale.own_images import stages


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights of a small network, which has seen nothing."""
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


def cluster(tmp_path: Path, weights: Path, *more: str) -> int:
    command = ["cluster", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    command += ["--backbone", "test_resnet", "--weights", str(weights), "--size", "32", "--workers", "0"]
    return main([*command, "train.max_steps=3", *more])


def rows(tmp_path: Path) -> list[dict[str, str]]:
    with open(tmp_path / "out/clusters.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_folder_that_grows(tmp_path, weights, capsys, monkeypatch):
    photos = make_images(tmp_path / "photos", 60, classes=3)
    (photos / "class0/broken.jpg").write_bytes(b"no image")
    (photos / "at the top.jpg").write_bytes((photos / "class0/0000.jpg").read_bytes())
    assert cluster(tmp_path, weights, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["new"], found["rejected"], found["gone"]) == (61, 61, 1, 0)
    assert found["advised"]
    assert sum(found["sizes"]) == 61
    k = found["clusters"]
    assert len(found["sizes"]) == k in (2, 3)
    table = rows(tmp_path)
    assert [row["path"] for row in table] == sorted(
        str(path) for path in photos.rglob("*.jpg") if path.name != "broken.jpg"
    )
    assert {int(row["cluster"]) for row in table} <= set(range(k))
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")

    # Again: nothing is made anew.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.arrow")}
    log = (tmp_path / "out/run-1/metrics.jsonl").read_bytes()
    assert cluster(tmp_path, weights) == 0
    assert (tmp_path / "out/run-1/metrics.jsonl").read_bytes() == log
    told = capsys.readouterr()
    assert f"61 images in {k} clusters; features of test_resnet at 32 pixels" in told.out
    assert f"1 file cannot be read, for reasons listed in {tmp_path}/out/shards/rejected.csv" in told.out
    assert f"{k} clusters, as before; use --clusters K for another number" in told.err
    assert rows(tmp_path) == table

    # What is new is taken in, and the heads go on from those of before.
    shutil.copy(photos / "class1/0001.jpg", photos / "later.jpg")
    (photos / "class2/0002.jpg").unlink()
    assert cluster(tmp_path, weights, "--json") == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["images"], found["new"], found["gone"], found["clusters"]) == (62, 1, 1, k)
    assert "1 image of before is not there any more, and stays in the clusters" in told.err
    assert f"{photos}/later.jpg" in [row["path"] for row in rows(tmp_path)]
    assert "run-1" in (tmp_path / "out/run-2/config.yaml").read_text()
    kept = {path: path.stat().st_mtime_ns for path in before if "neighbours" not in path.name}
    assert kept == {path: before[path] for path in kept}

    # Another number of clusters: shards and features stay.
    assert cluster(tmp_path, weights, "--clusters", "4", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clusters"], found["advised"], found["new"]) == (4, False, 0)


@pytest.mark.slow
def test_images_of_five_channels_are_seen_to_be_such(tmp_path, weights, capsys):
    """The same command takes them; what it writes serves `predict` and grows as that of photographs does."""
    pytest.importorskip("tifffile")
    cells(tmp_path / "photos")
    assert cluster(tmp_path, weights, "--clusters", "2", "--json") == 0
    told = capsys.readouterr()
    assert "the images have 5 channels, which are kept as stored" in told.err
    assert json.loads(told.out)["images"] == len(rows(tmp_path)) == 40
    settings = load_config(tmp_path / "out/run-1/config.yaml").model
    assert (settings.in_chans, settings.pixels.type, settings.pixels.scale) == (5, "uint16", "percentiles")
    new = tmp_path / "photos/kind0/new.tif"
    shutil.copy(tmp_path / "photos/kind0/0.tif", new)
    assert (
        main(
            ["predict", str(tmp_path / "out/run-1"), "--images", str(new), "--out", str(tmp_path / "new.csv")]
        )
        == 0
    )
    assert cluster(tmp_path, weights, "--clusters", "2") == 0
    assert len(table := rows(tmp_path)) == 41
    assert str(new) in [row["path"] for row in table]
    # Its views are its own, but the image as it is is that of which it is a copy.
    features = open_features(tmp_path / "out/features")
    as_they_are = features.take(np.arange(41))
    far = np.linalg.norm(as_they_are[:40] - as_they_are[40], axis=1)
    copied, next_to_it = np.sort(far)[:2]
    assert copied < next_to_it / 20  # float16, in a batch of another size
    assert not np.array_equal(features.mean(np.array([far.argmin()])), features.mean(np.array([40])))
    assert cluster(tmp_path, weights, "--channels", "4") == 2
    assert "--channels was 5 and is now 4" in capsys.readouterr().err


@pytest.mark.slow
def test_folders_are_classes_where_asked_for(tmp_path, weights, capsys):
    make_images(tmp_path / "photos", 30, classes=3)
    assert cluster(tmp_path, weights, "--labels", "--clusters", "2") == 0
    told = capsys.readouterr().out
    assert "most common class" in told
    assert "against the folders" in told


@pytest.mark.slow
def test_as_few_images_as_clusters(tmp_path, weights, capsys):
    """A folder of any number of images is clustered, or told to hold too few before their features are computed."""
    make_images(tmp_path / "photos", 1, classes=0)
    assert cluster(tmp_path, weights) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == (
        f"error: {tmp_path}/photos has 1 image that can be read, which cannot be grouped"
    )
    make_images(tmp_path / "photos", 3, classes=0)
    assert cluster(tmp_path, weights, "--clusters", "4") == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == (
        f"error: {tmp_path}/photos has 3 images that can be read, so --clusters can be at most 3"
    )
    assert "2/6" not in told
    assert cluster(tmp_path, weights) == 2
    told = capsys.readouterr().err
    assert "photos has 3 images, too few for advice on the number of clusters (at least 60)" in told
    assert "2/6" not in told
    assert cluster(tmp_path, weights, "--clusters", "3") == 0
    assert len(rows(tmp_path)) == 3


@pytest.mark.parametrize("stage", ["embed_shards", "train_run", "write_paths"])
@pytest.mark.slow
def test_killed_between_stages(tmp_path, weights, monkeypatch, stage, capsys):
    make_images(tmp_path / "photos", 60, classes=0)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, stage, killed)
        assert cluster(tmp_path, weights) == 75
    assert "interrupted; the same command continues from there" in capsys.readouterr().err
    assert cluster(tmp_path, weights) == 0
    assert len(rows(tmp_path)) == 60


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{tmp}/none", "there is no folder {tmp}/none; name one with images in it"),
        (
            "{tmp}/photos --out {tmp}/photos/out",
            "{tmp}/photos/out is inside {tmp}/photos, the source of the images: choose an --out outside",
        ),
        (
            "{tmp}/photos --out {tmp}/full",
            "{tmp}/full is neither empty nor the folder of an earlier `ccscale cluster`; name another --out",
        ),
        ("{tmp}/photos --weights x", "--weights also needs --backbone, the timm model that they belong to"),
        (
            "{tmp}/photos --backbone resnet19 --out {tmp}/x",
            "timm has no model 'resnet19' (model.backbone); did you mean 'resnet1",
        ),
    ],
)
def test_refused(tmp_path, capsys, line, sentence):
    make_images(tmp_path / "photos", 3, classes=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    words = line.format(tmp=tmp_path).split()
    assert main(["cluster", "--device", "cpu", "--clusters", "2", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {sentence.format(tmp=tmp_path)}")
    assert not (tmp_path / "x" / "shards").exists()
    assert not (tmp_path / "photos" / "out").exists()
