"""The command line: what each verb prints and where, exit codes, and one run from training to a table."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import make_images, small_settings

import ccscale
from ccscale.cli import main
from ccscale.config import describe_keys, load_config
from ccscale.data.manifest import Manifest
from ccscale.data.reader import SampleReader
from ccscale.data.shards import make_shards
from ccscale.data.sources import open_source

STEPS = 6
VERBS = [
    "demo",
    "shards",
    "shards make",
    "shards verify",
    "shards info",
    "train",
    "evaluate",
    "predict",
    "export",
]


def write_config(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A terminal of another width would wrap the help elsewhere.
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "100"},
    )


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command line that must be refused; return the sentence.

    Exit code 2, one line on standard error, nothing on standard output, and nothing in the folder that was not
    there before.
    """

    def call(*arguments: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert code == 2
        assert sorted(tmp_path.rglob("*")) == before
        return line.removeprefix("error: ")

    return call


class TestHelp:
    @pytest.mark.parametrize("verb", ["", *VERBS, "config"])
    def test_help(self, verb, capsys):
        with pytest.raises(SystemExit) as left:
            main([*verb.split(), "--help"])
        assert left.value.code == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"usage: ccscale {verb}".rstrip())
        assert err == ""

    def test_help_names_every_verb(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        out = capsys.readouterr().out
        for verb in VERBS:
            assert f"\n    {verb.split()[0]} " in out

    def test_parser_is_built_without_torch(self):
        code = (
            "import sys, ccscale.cli; ccscale.cli._parser(); "
            "print([name for name in ('torch', 'timm', 'deepspeed', 'sklearn') if name in sys.modules])"
        )
        done = python("-c", code)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    def test_as_a_module(self):
        done = python("-m", "ccscale", "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("usage: ccscale")

    @pytest.mark.parametrize(
        "arguments", [[], ["nonsense"], ["train"], ["predict", "run"], ["evaluate", "r", "--device", "tpu"]]
    )
    def test_wrong_arguments(self, arguments, capsys):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("usage: ccscale")
        assert "error: " in err.splitlines()[-1]


class TestConfig:
    def test_lists_the_keys(self, capsys):
        assert main(["config"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert len(lines) == 2 * len(describe_keys())
        assert lines[0] == "run  (str or null; null)"
        for key, kind, default, description in describe_keys():
            assert f"{key}  ({kind}; {default})\n    {description}\n" in out

    def test_schema(self, capsys):
        assert main(["config", "--schema"]) == 0
        out = capsys.readouterr().out
        assert "lr" in json.loads(out)["$defs"]["Train"]["properties"]

    def test_resolves(self, tmp_path, capsys):
        path = write_config(tmp_path, {"data": {"shards": "x"}, "model": {"clusters": 5}})
        assert main(["config", str(path), "train.lr=1e-2"]) == 0
        out = capsys.readouterr().out
        (tmp_path / "resolved.yaml").write_text(out)
        assert load_config(tmp_path / "resolved.yaml") == load_config(path, ["train.lr=0.01"])

    def test_into_a_closed_pipe(self):
        """As in `ccscale config | head -1`: no traceback."""
        done = subprocess.run(
            f"{sys.executable} -m ccscale config | head -1",
            shell=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "run  (str or null; null)\n"
        assert done.stderr == ""


class TestMistakes:
    @pytest.fixture
    def config(self, shards, tmp_path) -> Path:
        return write_config(tmp_path, small_settings(shards, tmp_path / "run"))

    def test_unknown_key(self, refused, config):
        assert refused("train", config, "train.lrr=1").startswith(
            f"{config}: there is no key 'train.lrr'; did you mean 'train.lr'"
        )

    def test_unknown_key_when_resolving(self, refused, config):
        assert "there is no key 'view'; did you mean 'views'" in refused("config", config, "view.size=1")

    def test_missing_config(self, refused, tmp_path):
        assert refused("train", tmp_path / "none.yaml").startswith(
            f"there is no config file {tmp_path}/none.yaml"
        )

    def test_unknown_backbone(self, refused, config):
        message = refused("train", config, "model.backbone=resnet35")
        assert message.startswith("timm has no model 'resnet35' (model.backbone); did you mean 'resnet")

    def test_missing_weights(self, refused, config):
        assert "there is no file none.safetensors" in refused(
            "train", config, "model.weights=none.safetensors"
        )

    def test_missing_shards(self, refused, config, tmp_path):
        message = refused("train", config, f"data.shards={tmp_path}/none")
        assert message.startswith(f"there is no folder {tmp_path}/none; ")

    def test_shards_without_manifest(self, refused, config, tmp_path):
        folder = tmp_path / "tars"
        folder.mkdir()
        (folder / "a.tar").write_bytes(bytes(1024))
        message = refused("train", config, f"data.shards={folder}")
        assert message.startswith(f"{folder} holds tars but no dataset.json: `ccscale shards index {folder}`")

    def test_missing_split(self, refused, config):
        assert "no split 'trian'; did you mean 'train'?" in refused("train", config, "data.splits=[trian]")

    def test_too_few_images(self, refused, config):
        assert "set train.global_batch to at most 150" in refused("train", config, "train.global_batch=151")

    def test_no_cuda(self, refused, config, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert "there is no CUDA device here" in refused("train", config, "train.device=cuda")

    def test_no_run_key(self, refused, config):
        assert "has no key 'run': add run=DIR" in refused("train", config, "run=null")

    def test_run_folder_with_something_else(self, refused, config, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.tex").write_text("precious")
        message = refused("train", config, f"run={tmp_path}/other")
        assert message.startswith(f"{tmp_path}/other is neither empty nor the folder of a run")

    @pytest.mark.parametrize(
        "arguments", [["evaluate"], ["predict", "--shards", "x", "--out", "y.csv"], ["export", "out"]]
    )
    def test_no_run(self, refused, tmp_path, arguments):
        verb, *more = arguments
        message = refused(verb, tmp_path / "none", *more)
        assert message.startswith(f"{tmp_path}/none is not the folder of a run; `ccscale train CONFIG run=")

    def test_source_of_shards_is_missing(self, refused, tmp_path):
        assert str(tmp_path / "none") in refused(
            "shards", "make", "folder", tmp_path / "none", tmp_path / "out"
        )

    def test_in_a_process_of_its_own(self, tmp_path):
        done = python("-m", "ccscale", "train", str(tmp_path / "none.yaml"))
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr == f"error: there is no config file {tmp_path}/none.yaml; configs/ holds examples\n"
        )

    @pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
    def test_only_the_first_rank_speaks_of_what_all_ranks_read(self, names, config, capsys, monkeypatch):
        for name, value in zip(names, ("1", "2"), strict=True):
            monkeypatch.setenv(name, value)
        assert main(["train", str(config), "train.lrr=1"]) == 2
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(("call", "code"), [("1 / 0", 1), ("75", 75), ("sys.exit(2)", 2), ("0", 0)])
    def test_the_process_ends_with_the_code_after_all_exit_handlers(self, call, code):
        program = (
            "import atexit, sys, ccscale.cli as cli\n"
            f"cli.main = lambda: atexit.register(print, 'tidied up') and ({call})\n"
            "cli.entry()"
        )
        done = python("-c", program)
        assert (done.returncode, done.stdout) == (code, "tidied up\n")

    def test_option_of_deepspeed_s_launcher_is_dropped(self, refused, tmp_path):
        assert refused("--local_rank=0", "train", tmp_path / "none.yaml").startswith(
            "there is no config file"
        )


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
    return root / "run"


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

    def test_other_settings_are_refused(self, run, refused):
        message = refused("train", run / "config.yaml", "train.lr=0.1", f"run={run}")
        assert message.startswith(f"{run} holds another run: train.lr was 0.0003 and is now 0.1")

    def test_evaluate_json(self, run, shards, capfd):
        assert main(["evaluate", str(run), "--json", "--workers", "0"]) == 0
        out, err = capfd.readouterr()
        (line,) = out.splitlines()
        found = json.loads(line)
        assert (found["step"], found["shards"], found["splits"]) == (STEPS, str(shards), ["train"])
        assert (found["images"], found["labelled"], sum(found["sizes"])) == (150, 150, 150)
        assert {"acc", "nmi", "ari", "f", "entropy"} <= found.keys()
        assert set(found["k_means"]) == {"acc", "nmi", "ari", "f"}
        assert "assigning: 150 of 150 images" in err
        table = pq.read_table(run / "assignments.parquet")
        assert table.column_names == ["key", "cluster", "confidence", "label"]
        assert np.bincount(table["cluster"], minlength=4).tolist() == found["sizes"]
        assert np.bincount(table["label"]).tolist() == [50, 50, 50]

    def test_evaluate_for_people(self, run, capfd):
        assert main(["evaluate", str(run), "--no-k-means", "--workers", "0"]) == 0
        out = capfd.readouterr().out
        assert "150 images of " in out
        assert "against 150 labels:" in out
        assert "ACC" in out
        assert "k-means" not in out
        assert "-0.0" not in out  # an entropy of nothing

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
        assert list(table) == ["key", "cluster", "confidence"]
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
            "config.json",
            "model.safetensors",
        ]

    def test_export_over_something(self, run, refused, tmp_path):
        (tmp_path / "out").mkdir()
        assert (
            refused("export", run, tmp_path / "out") == f"{tmp_path}/out is there already; name a new folder"
        )

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("table.txt", "table.txt must end in .parquet or .csv"),
            ("table", "table must end in .parquet or .csv"),
            ("none/table.csv", "none for table.csv; make it first"),
        ],
    )
    def test_predict_into_a_wrong_file(self, run, plain, refused, tmp_path, name, expected):
        message = refused("predict", run, "--shards", plain / "shards", "--out", tmp_path / name)
        assert message.endswith(expected)

    def test_predict_on_no_shards(self, run, refused, tmp_path):
        message = refused("predict", run, "--shards", tmp_path / "none", "--out", tmp_path / "t.csv")
        assert message.startswith(f"there is no folder {tmp_path}/none")

    def test_evaluate_an_unknown_split(self, run, refused):
        assert "no split 'tset'; it has train" in refused("evaluate", run, "--split", "tset")

    def test_damaged_checkpoint(self, run, tmp_path, refused):
        """Every verb that needs the network says what is wrong with it."""
        shutil.copytree(run, tmp_path / "run")
        weights = tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        expected = f"the file model.safetensors of step-{STEPS:08d} was changed or damaged"
        for arguments in (["evaluate"], ["export", "out"], ["predict", "--shards", "x", "--out", "y.csv"]):
            verb, *more = arguments
            assert expected in refused(verb, tmp_path / "run", *more)
