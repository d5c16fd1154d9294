"""Prediction of images as people have them, by a run and by an exported network."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.odd_images import BAD, ODD
from harness.ranks import run_ranks
from PIL import Image

from ccscale import load, read_images
from ccscale.cli.main import main
from ccscale.data.sources import listing
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.evaluate.predict import PredictOptions, predict_run
from ccscale.model.export import copy_export


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "network"
    copy_export(run_and_checkpoint(run)[1].path, folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Odd images and images that are none, in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    for kind, files in (("odd", ODD), ("bad", BAD)):
        (folder / kind).mkdir()
        for number, entry in enumerate(files.values()):
            (folder / kind / f"{number:03d}.jpg").write_bytes(entry[0])
    return folder


def predict(network, images, out, **wanted):
    found = predict_run(
        network, None, PredictOptions(str(out), **wanted), images=images, device="cpu", workers=0
    )
    assert found is not None
    return found


def test_an_exported_network_and_a_folder(run, exported, photos, tmp_path):
    """The rows are what the network makes of the files; those that cannot be decoded are told."""
    found = predict(exported, [str(photos)], tmp_path / "a.parquet")
    predict(run, [str(photos)], tmp_path / "b.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.equals(pq.read_table(tmp_path / "b.parquet"))
    assert table["key"].to_pylist() == table["origin"].to_pylist() == sorted(map(str, photos.glob("*/*.jpg")))
    assert (found["images"], len(found["undecodable"])) == (len(ODD), len(BAD))
    assert found["undecodable"][0].startswith(f"{photos}/bad/000.jpg: ")
    odd = table.slice(len(BAD))
    network = load(exported)
    clusters, confidence = network.predict(read_images(odd["key"].to_pylist(), network.size))
    assert odd["cluster"].to_pylist() == clusters.tolist()
    assert np.allclose(odd["confidence"], confidence, atol=1e-5)
    assert table.slice(0, len(BAD))["cluster"].null_count == len(BAD)


@pytest.mark.dist
def test_ranks_and_what_was_there(exported, photos, tmp_path, monkeypatch, capsys):
    """Parts are gone on with; two ranks write what one does."""
    predict(exported, [str(photos)], tmp_path / "one.parquet")
    assert run_ranks(2, on_rank, str(exported), str(photos), str(tmp_path / "two.parquet"))[1] is None
    one, two = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert one["key"].equals(two["key"])
    assert one["cluster"].equals(two["cluster"])
    monkeypatch.setattr(listing, "PIECE", 7)
    predict(exported, [str(photos)], f"{tmp_path}/parts/")
    parts = sorted((tmp_path / "parts").glob("*.parquet"))
    kept = parts[0].stat().st_mtime_ns
    for part in parts[2:]:
        part.unlink()
    capsys.readouterr()
    predict(exported, [str(photos)], f"{tmp_path}/parts/")
    assert f"continued after 2 of {len(parts)} parts that were already done" in capsys.readouterr().err
    assert parts[0].stat().st_mtime_ns == kept
    assert pq.read_table(tmp_path / "parts")["cluster"].equals(one["cluster"])


def on_rank(rank, exported, photos, out):
    listing.PIECE = 7
    return predict_run(exported, None, PredictOptions(out), images=[photos], device="cpu", workers=0)


def test_the_command_line(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 5), "red").save("a.png")
    Image.new("RGB", (9, 5), "blue").save("b.png")
    (tmp_path / "list.txt").write_text("b.png\n")
    options = ["--device", "cpu", "--workers", "0"]
    assert main(["predict", str(exported), "--images", "a.png", "list.txt", "--out", "-", *options]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == '"key","origin","cluster","confidence","second","second_confidence"'
    assert [row.split(",")[:2] for row in rows] == [[f'"{n}.png"', f'"{tmp_path}/{n}.png"'] for n in "ab"]
    assert main(["predict", str(exported), "--images", ".", "--out", "t.csv", "--json", *options]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == 2
    assert "1 file is passed over (1 .txt), the first list.txt" in captured.err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("predict {run} --out t.csv", "one of the arguments --shards --images is required"),
        (
            "predict {export} --images none --out t.csv",
            "there is no file or folder none; --images accepts images, folders and lists",
        ),
        (
            "predict {export} --images {export} --out t.csv",
            "{export}: no images found; 2 files are passed over (1 .json, 1 .safetensors), the first "
            "config.json; check the path",
        ),
        (
            "predict {export} --shards {shards} --out t.csv --checkpoint best",
            "{export} is an exported network, which has no checkpoints: leave out --checkpoint",
        ),
        (
            "predict {export} --shards {shards} --out t.csv --merged 3",
            "an exported network has no merge tree: leave out --merged, or give the run",
        ),
        (
            "predict {export} --images {shards} --out parts/ --follow",
            "--follow and --split need --shards: leave them out with --images",
        ),
        (
            "predict {export} --images {shards} --out - --json",
            "--out - works with one process and without --json: give a file",
        ),
    ],
)
def test_refused(run, exported, shards, tmp_path, monkeypatch, capsys, line, sentence):
    monkeypatch.chdir(tmp_path)
    names = {"run": run, "export": exported, "shards": shards}
    words = [word.format(**names) for word in line.split()]
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert capsys.readouterr().err.splitlines()[-1].partition("error: ")[2] == sentence.format(**names)
    assert not list(tmp_path.iterdir())
