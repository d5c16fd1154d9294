"""A run from its first command to its last: train, evaluate, predict, export, on images with and without labels."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import make_images, python, small_settings, write_config

import ccscale
from ccscale.cli.main import main
from ccscale.config.file import load_config
from ccscale.data.conversion.shards import make_shards
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.kinds import open_source

STEPS = 6
COLUMNS = ["key", "origin", "cluster", "confidence", "second", "second_confidence"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Nine images without labels, and shards of them."""
    root = tmp_path_factory.mktemp("plain")
    source = open_source("folder", str(make_images(root / "images", 9, classes=0)))
    make_shards(source, root / "shards", shard_samples=4, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory) -> Path:
    """A run of six steps, trained by the command in a process of its own."""
    root = tmp_path_factory.mktemp("cli")
    config = write_config(root, small_settings(shards, root / "run", train__max_steps=STEPS))
    done = python("-m", "ccscale", "train", str(config), "seed=3", "--json")
    assert done.returncode == 0, done.stderr
    # Whatever DeepSpeed and others have to say is not for standard output.
    assert json.loads(done.stdout) == {"run": str(root / "run"), "step": STEPS, "finished": True}
    assert f"training: {STEPS} of {STEPS} steps" in done.stderr
    told = [
        "loading PyTorch",
        "training on 1 rank: the CPU, 1 thread",
        "folder: 150 images of train; 9 steps of 16 images an epoch, 2 epochs: 18 steps, of which train.max_steps ",
        "the first step took ",
        "training: 6 of 6 steps",
        f"next: `ccscale evaluate {root}/run` for scores, `ccscale report {root}/run` to look at the "
        "clusters",
    ]
    # gloo warns of a host whose own name it cannot resolve.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[W")]
    places = [next(i for i, line in enumerate(lines) if line.startswith(text)) for text in told]
    assert places == sorted(places)
    assert places[:2] == [0, 1]
    return root / "run"


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class TestRun:
    def test_folder(self, run):
        assert {"config.yaml", "run.json", "metrics.jsonl", "tensorboard", "checkpoints"} <= {
            path.name for path in run.iterdir()
        }
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, STEPS + 1))
        assert load_config(run / "config.yaml").seed == 3

    def test_again_there_is_nothing_left_to_do(self, run, capfd):
        before = (run / "metrics.jsonl").read_bytes()
        assert main(["train", str(run / "config.yaml"), "--json"]) == 0
        out, err = capfd.readouterr()
        assert json.loads(out) == {"run": str(run), "step": STEPS, "finished": True}
        assert f"going on from step {STEPS} of {STEPS}: there is nothing left to do" in err
        assert (run / "metrics.jsonl").read_bytes() == before

    def test_runs_one_after_the_other_in_one_process(self, shards, tmp_path):
        """DeepSpeed keeps process groups in global variables."""
        for name in ("first", "second"):
            config = write_config(tmp_path, small_settings(shards, tmp_path / name, train__max_steps=2))
            assert main(["train", str(config)]) == 0
        steps = [
            [
                json.loads(line).get("loss")
                for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
            ]
            for name in ("first", "second")
        ]
        assert len(steps[0]) == 3
        assert steps[0] == steps[1]

    def test_evaluate_json(self, run, shards, capfd):
        assert main(["evaluate", str(run), "--json", "--workers", "0"]) == 0
        out, err = capfd.readouterr()
        (line,) = out.splitlines()
        found = json.loads(line)
        assert (found["step"], found["shards"], found["splits"]) == (STEPS, str(shards), ["train"])
        assert (found["images"], found["labelled"], sum(found["sizes"])) == (150, 150, 150)
        assert {"acc", "nmi", "ari", "f", "entropy"} <= found.keys()
        (last,) = (line for line in metrics(run) if line["kind"] == "evaluation")
        assert 0 < found["information"] < np.log(4)
        assert last["information"] == pytest.approx(found["information"], abs=1e-6)
        assert set(found["k_means"]) == {"acc", "purity", "nmi", "ari", "f"}
        assert "assigning: 150 of 150 images" in err
        table = pq.read_table(run / "assignments.parquet")
        assert table.column_names == [*COLUMNS, "label"]
        assert np.bincount(table["cluster"], minlength=4).tolist() == found["sizes"]
        assert np.bincount(table["label"]).tolist() == [50, 50, 50]

    def test_evaluate_for_people(self, run, capfd):
        assert main(["evaluate", str(run), "--no-k-means", "--workers", "0"]) == 0
        out = capfd.readouterr().out
        assert "150 images of " in out
        assert "against 150 labels (ACC: one-to-one matching; purity: many-to-one):" in out
        assert "ACC" in out
        assert "k-means" not in out
        assert not re.search(r"-0(\.0*)?(?![\d.])", out)  # an entropy of nothing

    def test_evaluate_without_labels(self, run, plain, capfd):
        before = sorted(path.name for path in run.iterdir())
        arguments = ["evaluate", str(run), "--shards", str(plain / "shards"), "--workers", "0"]
        assert main(arguments) == 0
        assert "There are no labels: ACC, NMI, ARI and F cannot be measured." in capfd.readouterr().out
        assert main([*arguments, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert (found["images"], found["labelled"]) == (9, 0)
        assert found.keys().isdisjoint({"acc", "nmi", "ari", "f", "k_means"})
        assert sorted(path.name for path in run.iterdir()) == before

    def test_predict(self, run, plain, tmp_path, capfd):
        """Both tables hold the same, and what `ccscale.load` and `predict` make of the image files."""
        arguments = ["predict", str(run), "--shards", str(plain / "shards"), "--workers", "0", "--out"]
        assert main([*arguments, str(tmp_path / "p.parquet")]) == 0
        assert capfd.readouterr().out == f"{tmp_path}/p.parquet: 9 images in 4 clusters\n"
        assert main([*arguments, str(tmp_path / "p.csv"), "--json"]) == 0
        told = json.loads(capfd.readouterr().out)
        assert (told["step"], told["images"], told["out"]) == (STEPS, 9, f"{tmp_path}/p.csv")
        assert main(["export", str(run), str(tmp_path / "out")]) == 0
        assert capfd.readouterr().out.startswith(f"{tmp_path}/out: the network of step {STEPS}; load it with")

        table = pq.read_table(tmp_path / "p.parquet").to_pydict()
        evaluated = ["calibrated"] if (run / "sureness.npz").exists() else []
        assert list(table) == [*COLUMNS[:4], *evaluated, *COLUMNS[4:]]
        manifest = Manifest.load(plain / "shards")
        reader = SampleReader(manifest, ["train"])
        assert table["key"] == [reader[i].key for i in range(9)]
        assert np.bincount(table["cluster"], minlength=4).tolist() == told["sizes"]
        with open(tmp_path / "p.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["key"] for row in rows] == table["key"]
        assert [int(row["cluster"]) for row in rows] == table["cluster"]
        assert np.allclose([float(row["confidence"]) for row in rows], table["confidence"], rtol=1e-6)

        network = ccscale.load(tmp_path / "out")
        files = [plain / "images" / f"{key}.jpg" for key in table["key"]]
        clusters, confidence = network.predict(ccscale.read_images(files, network.size))
        assert clusters.tolist() == table["cluster"]
        assert np.allclose(confidence, table["confidence"], rtol=0, atol=1e-6)
        assert len(set(table["confidence"])) == 9  # the images differ, or this would show nothing

    def test_export_json(self, run, tmp_path, capfd):
        assert main(["export", str(run), str(tmp_path / "out"), "--json"]) == 0
        assert json.loads(capfd.readouterr().out) == {"out": f"{tmp_path}/out", "step": STEPS}
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "README.md",
            "config.json",
            "model.safetensors",
            *(["sureness.npz"] if (run / "sureness.npz").exists() else []),  # where it was evaluated
        ]


def test_a_run_that_was_shortened_is_done(run, tmp_path, capfd):
    shutil.copytree(run, tmp_path / "run")
    assert main(["train", str(run / "config.yaml"), f"run={tmp_path}/run", "train.max_steps=4"]) == 0
    err = capfd.readouterr().err
    assert f"step {STEPS} is done, and the run ends at 4: there is nothing left to do\n" in err
    assert "of 4 steps" not in err
    assert "0.00 a second" not in err
    assert main(["train", str(run / "config.yaml"), f"run={tmp_path}/run"]) == 0
    err = capfd.readouterr().err
    assert f"going on from step {STEPS} of {STEPS}: there is nothing left to do\n" in err
    assert f"of {STEPS} steps, " not in err
