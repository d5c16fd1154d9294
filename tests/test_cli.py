"""The command line: what each verb prints and where, exit codes, and one run from training to a table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python, small_settings, write_config

from ccscale.cli import main
from ccscale.config_file import describe_keys, load_config

VERBS = [
    "demo",
    "launch",
    "shards",
    "shards make",
    "shards verify",
    "shards info",
    "train",
    "evaluate",
    "predict",
    "export",
    "plan",
]


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
