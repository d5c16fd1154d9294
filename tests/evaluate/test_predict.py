"""Prediction in parts: every sample once at any number of ranks, after kills, never with another one's parts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from conftest import small_settings, write_config
from harness.pictures import spoil
from harness.ranks import run_ranks

from ccscale.cli.main import main
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate import parts as parts_module
from ccscale.evaluate.parts_folder import MARKER, PartsFolder
from ccscale.evaluate.predict import PredictOptions, predict_run

COLUMNS = ["key", "origin", "cluster", "confidence", "second", "second_confidence"]


def predict(run: Path, shards: Path, out: str, **wanted: Any) -> dict[str, Any]:
    found = predict_run(run, str(shards), PredictOptions(out, **wanted), device="cpu", workers=0)
    assert found is not None
    return found


def on_rank(rank: int, run: str, shards: str, out: str, samples: int) -> dict[str, Any] | None:
    parts_module.parts_of.__defaults__ = (samples,)
    return predict_run(run, shards, PredictOptions(out), device="cpu", workers=0)


@pytest.fixture(scope="module")
def whole(run, shards, tmp_path_factory) -> pa.Table:
    """The table of all samples, by one rank."""
    out = tmp_path_factory.mktemp("whole") / "all.parquet"
    found = predict(run, shards, str(out))
    assert [path.name for path in out.parent.iterdir()] == ["all.parquet"]
    table = pq.read_table(out)
    assert found["images"] == len(table) == 150
    assert found["sizes"] == np.bincount(table["cluster"], minlength=6).tolist()
    assert found["confidence"] == pytest.approx(np.mean(table["confidence"]), abs=1e-6)
    return table


def same(table: pa.Table, expected: pa.Table) -> bool:
    """Tell whether two tables hold the same, up to the rounding of other batches."""
    exact = all(table[name].equals(expected[name]) for name in ("key", "cluster", "second"))
    return exact and all(
        np.allclose(table[name], expected[name], atol=1e-5) for name in ("confidence", "second_confidence")
    )


def test_a_row_a_sample_in_the_order_of_the_shards(whole, shards):
    assert whole.column_names == COLUMNS
    from ccscale.data.reader import SampleReader

    reader = SampleReader(Manifest.load(shards), ["train"])
    assert whole["key"].to_pylist() == [reader.key(i) for i in range(150)]
    origins = whole["origin"].to_pylist()
    assert origins[:3] == [f"{key}.jpg" for key in whole["key"].to_pylist()[:3]]
    assert len(set(origins)) == 150
    first, second = whole["confidence"].to_numpy(), whole["second_confidence"].to_numpy()
    assert (first >= second).all()
    assert (second > 0).all()


def test_another_checkpoint_than_the_last(shards, tmp_path, capsys):
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2, train__save_every=1)
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    tables = []
    for which, step in (("1", 1), ("last", 2)):
        out = tmp_path / f"{which}.parquet"
        command = ["predict", str(tmp_path / "run"), "--shards", str(shards), "--out", str(out), "--json"]
        capsys.readouterr()
        assert main([*command, "--checkpoint", which, "--workers", "0"]) == 0
        assert json.loads(capsys.readouterr().out)["step"] == step
        tables.append(pq.read_table(out))
    assert tables[0]["key"].equals(tables[1]["key"])
    assert not tables[0]["confidence"].equals(tables[1]["confidence"])


@pytest.mark.dist
def test_any_number_of_ranks(run, shards, whole, tmp_path):
    """Three ranks, parts of up to ten samples."""
    world, samples = 3, 10
    first, *others = run_ranks(world, on_rank, str(run), str(shards), str(tmp_path / "t.parquet"), samples)
    assert others == [None] * (world - 1)
    assert same(pq.read_table(tmp_path / "t.parquet"), whole)
    assert first["images"] == 150
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_parts_in_a_folder(run, shards, whole, tmp_path):
    out = f"{tmp_path}/parts/"
    predict(run, shards, out)
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == [MARKER, *(f"train-{i:06d}.000000000.parquet" for i in range(5))]
    joined = pa.concat_tables(pq.read_table(tmp_path / "parts" / name) for name in names[1:])
    assert same(joined, whole)
    # The folder is a table to others.
    assert same(pq.read_table(tmp_path / "parts"), whole)
    assert same(pa.dataset.dataset(tmp_path / "parts").to_table(), whole)


def hide(url: str) -> str:
    return {"train-000000.tar": "_first.tar", "train-000001.tar": ".second.tar"}.get(url, url)


def test_a_folder_of_parts_is_a_table_while_it_is_written(run, shards, whole, tmp_path, monkeypatch):
    """Also where the shards' names are such as readers pass over."""
    copy = Path(shutil.copytree(shards, tmp_path / "shards"))
    manifest = Manifest.load(copy)
    for shard in manifest.shards:
        for old, new in ((shard.url, hide(shard.url)), (index_name(shard.url), index_name(hide(shard.url)))):
            (copy / old).rename(copy / new)
    renamed = tuple(replace(shard, url=hide(shard.url)) for shard in manifest.shards)
    replace(manifest, shards=renamed).save()
    seen = []
    plain = pq.ParquetWriter.write_table

    def look(self, *arguments):
        plain(self, *arguments)
        files = [path for path in (tmp_path / "parts").iterdir() if path.suffix == ".parquet"]
        seen.append((len(files), len(pq.read_table(tmp_path / "parts")) if files else 0))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", look)
    predict(run, copy, f"{tmp_path}/parts/")
    assert seen == [(i, 30 * i) for i in range(5)]
    assert len(pq.read_table(tmp_path / "parts")) == 150


def index_name(url: str) -> str:
    return f"{url.removesuffix('.tar')}.index.parquet"


@pytest.mark.parametrize("out", ["t.parquet", "parts/"])
def test_parts_of_an_earlier_release_are_gone_on_with(run, shards, whole, tmp_path, monkeypatch, out, capsys):
    """They have other names, and fewer columns."""
    place = f"{tmp_path}/{out}"
    with monkeypatch.context() as patch:
        patch.setattr("ccscale.evaluate.predict.PartsFolder.join", lambda *_: None)
        predict(run, shards, place)
    folder = PredictOptions(place).folder
    (folder / MARKER).rename(folder / "predict.json")
    kept = sorted(folder.glob("*.parquet"))[1:3]
    for path in folder.glob("*.parquet"):
        if path in kept:
            former = pq.read_table(path).drop_columns(["origin"]).replace_schema_metadata(None)
            pq.write_table(former, path)
        else:
            path.unlink()
    capsys.readouterr()
    predict(run, shards, place)
    assert "continued after 2 of 5 parts that were already done" in capsys.readouterr().err
    if out.endswith("/"):
        assert (folder / MARKER).exists()
        assert not (folder / "predict.json").exists()
        assert len(pq.read_table(folder)) == 150
    else:
        table = pq.read_table(tmp_path / out)
        assert same(table, whole)
        assert table.schema.equals(whole.schema)
        assert table["origin"].null_count == 60


def test_csv(run, shards, whole, tmp_path):
    predict(run, shards, str(tmp_path / "t.csv"))
    table = pa.csv.read_csv(tmp_path / "t.csv")
    assert table["key"].to_pylist() == whole["key"].to_pylist()
    assert table["second"].to_pylist() == whole["second"].to_pylist()
    assert table["origin"].to_pylist() == whole["origin"].to_pylist()


@pytest.mark.parametrize("out", ["t.parquet", "parts/"])
def test_goes_on_with_the_parts_that_are_missing(run, shards, whole, tmp_path, monkeypatch, out, capsys):
    """What a kill leaves: some parts, and one that was being written."""
    written: list[str] = []
    plain = PartsFolder.write

    def note(self, mine, batches):
        written.extend(part.name for part in mine)
        plain(self, mine, batches)

    monkeypatch.setattr(PartsFolder, "write", note)
    monkeypatch.setattr("ccscale.evaluate.predict.PartsFolder.join", lambda *_: None)
    place = f"{tmp_path}/{out}"
    predict(run, shards, place)
    folder = PredictOptions(place).folder
    parts = sorted(folder.glob("*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in parts[:2]}
    for path in parts[2:]:
        path.unlink()
    for name in ("train-000003.000000000.parquet.part", ".train-000003.000000000.parquet.part"):
        (folder / name).write_bytes(b"PAR1 half")
    monkeypatch.undo()
    monkeypatch.setattr(PartsFolder, "write", note)
    written.clear()
    predict(run, shards, place)
    assert written == [path.stem for path in parts[2:]]
    assert "continued after 2 of 5 parts that were already done" in capsys.readouterr().err
    if out.endswith("/"):
        assert {path: path.stat().st_mtime_ns for path in parts[:2]} == kept
        assert not list(folder.glob("*.part"))
        table = pa.concat_tables(map(pq.read_table, parts))
    else:
        assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
        table = pq.read_table(tmp_path / "t.parquet")
    assert same(table, whole)


@pytest.mark.slow
def test_a_part_of_a_shard_that_was_replaced_is_made_anew(run, shards, whole, tmp_path, capsys):
    """A folder that is followed has no digest: each part carries its shard's."""
    growing = Path(shutil.copytree(shards, tmp_path / "growing", ignore=shutil.ignore_patterns("*.json")))
    for path in growing.glob("*.index.parquet"):
        path.unlink()
    out = tmp_path / "parts"

    def follow() -> list[int]:
        predict(run, growing, f"{out}/", follow=True, idle=2.5)
        return [path.stat().st_mtime_ns for path in sorted(out.glob("*.parquet"))]

    before = follow()
    tars = sorted(growing.glob("*.tar"))
    shutil.copy(tars[4], tars[1])  # as many others, in as many bytes
    after = follow()
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, True, False, False, False]
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    assert parts[1]["key"].equals(parts[4]["key"])


@pytest.mark.slow
def test_killed_and_run_again(run, shards, whole, tmp_path):
    """SIGKILL after its first part; then on as if nothing had been."""
    command = [sys.executable, "-m", "ccscale", "predict", str(run), "--shards", str(shards)]
    command += ["--out", str(tmp_path / "t.parquet"), "--workers", "0", "--device", "cpu"]
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import time\nfrom ccscale.evaluate.parts_folder import PartsFolder\nplain = PartsFolder.path\n"
        "def path(self, part):\n    time.sleep(0.5)\n    return plain(self, part)\nPartsFolder.path = path\n"
    )
    paths = os.pathsep.join([str(slow), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.DEVNULL)
    folder = tmp_path / "t.parquet.parts"
    end = time.monotonic() + 60
    while not list(folder.glob("*.parquet")) and time.monotonic() < end:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    done = len(list(folder.glob("*.parquet")))
    assert 0 < done < 5
    assert main(command[3:]) == 0
    assert same(pq.read_table(tmp_path / "t.parquet"), whole)
    assert not folder.exists()


@pytest.mark.parametrize(("features", "width"), [("backbone", 96), ("instance", 128)])
def test_features(run, shards, whole, tmp_path, features, width):
    predict(run, shards, str(tmp_path / "t.parquet"), features=features)
    table = pq.read_table(tmp_path / "t.parquet")
    assert same(table, whole)
    assert table.schema.field("features").type == pa.list_(pa.float32())
    values = np.stack(table["features"].to_numpy(zero_copy_only=False))
    assert values.shape[1] == width
    norms = np.linalg.norm(values, axis=1)
    assert np.allclose(norms, 1, atol=1e-5) == (features == "instance")
    assert len(np.unique(norms)) > 1


def test_an_image_that_cannot_be_decoded(run, shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    index = spoil(manifest, 1, 2)
    found = predict(run, copy, str(tmp_path / "t.parquet"), features="backbone")
    assert found["images"] == 149
    (line,) = found["undecodable"]
    assert line.startswith(f"{index.keys[2]}: ")
    table = pq.read_table(tmp_path / "t.parquet")
    (row,) = [row for row in table.to_pylist() if row["cluster"] is None]
    known = {"key": index.keys[2], "origin": index.origins[2]}
    assert row == known | dict.fromkeys([*COLUMNS[2:], "features"])


def test_other_data_are_named(run, shards, tmp_path, capsys):
    assert predict(run, shards, str(tmp_path / "own.csv"))["notes"] == []
    copy = shutil.copytree(shards, tmp_path / "shards")
    text = json.loads((copy / "dataset.json").read_text())
    text["name"] = "cars"
    text["shardlist"][0]["sha256"] = "0" * 64
    (copy / "dataset.json").write_text(json.dumps(text))
    arguments = ["--shards", str(copy), "--out", str(tmp_path / "t.csv"), "--workers", "0"]
    assert main(["predict", str(run), *arguments]) == 0
    expected = "note: these are shards of the data set 'cars'; the run was trained on 'folder'"
    assert expected in capsys.readouterr().err


class TestRefused:
    def test_parts_of_another_prediction(self, run, shards, tmp_path, refused, capsys):
        arguments = ["predict", run, "--shards", shards, "--workers", "0", "--out", f"{tmp_path}/parts/"]
        assert main([str(argument) for argument in arguments]) == 0
        capsys.readouterr()
        message = refused(*arguments, "--features", "instance")
        assert message == (
            f"{tmp_path}/parts contains parts of another prediction: features was None and is now "
            "'instance'; delete it, or choose another --out"
        )

    def test_a_folder_of_something_else(self, run, shards, tmp_path, refused):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/letter.txt").write_text("dear")
        message = refused("predict", run, "--shards", shards, "--out", tmp_path / "mine")
        assert message == f"{tmp_path}/mine is neither empty nor a folder of parts; choose another --out"

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--out", "t.csv", "--features", "backbone"], "--features needs a .parquet file or a folder"),
            (
                ["--out", "t.csv", "--follow"],
                "--follow writes parts as shards arrive: give a folder, --out t.csv/",
            ),
            (["--out", "none/parts/"], "there is no folder none for parts; create it first"),
            (["--out", "t.csv", "--idle", "3"], "--idle goes with --follow"),
            (["--out", "t.csv", "--merged", "3"], "merge.json; run `ccscale evaluate"),
        ],
    )
    def test_options(self, run, shards, tmp_path, refused, monkeypatch, options, expected):
        monkeypatch.chdir(tmp_path)
        assert expected in refused("predict", run, "--shards", shards, *options)
