"""The command line: what each verb prints and where, exit codes, and one run from training to a table."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import python, small_settings, write_config

from ccscale.cli.main import build_parser, main
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys
from ccscale.errors import InputError
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.report.report import report_run

EXAMPLES = Path(__file__).parents[2] / "configs"
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


def commands(parser, name=""):
    """Yield the name and the parser of every command."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, its in action.choices.items():
                yield from commands(its, inner)


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
            "import sys; from ccscale.cli.main import build_parser; build_parser(); "
            "print([name for name in ('torch', 'timm', 'deepspeed', 'sklearn') if name in sys.modules])"
        )
        done = python("-c", code)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    def test_as_a_module(self):
        done = python("-m", "ccscale", "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("usage: ccscale")

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("train", "the following arguments are required: CONFIG"),
            ("plan --nodes 2", "the following arguments are required: CONFIG"),
            ("predict run", "the following arguments are required: --shards, --out"),
            ("evaluate r --device cup", "'cup' is none of auto, cpu, cuda; did you mean 'cpu'?"),
            ("launch c.yaml --cluster locl", "'locl' is none of slurm, local; did you mean 'local'?"),
            ("evaluate r --workers -1", "argument --workers: '-1' is no number from 0"),
            ("predict r --shards s --out o --workers 1.5", "argument --workers: '1.5' is no number from 0"),
            ("report r --workers -2", "argument --workers: '-2' is no number from 0"),
            ("shards make digits o --workers 0", "argument --workers: 0 is less than 1"),
            ("shards verify s --workers -1", "argument --workers: '-1' is no number from 0"),
            ("shards index s --workers 0", "argument --workers: 0 is less than 1"),
            ("predict r --shards s --out o --merged 0", "argument --merged: 0 is less than 1"),
            (
                "predict r --shards s --out o --follow --idle nan",
                "argument --idle: 'nan' is no number from 0",
            ),
            ("plan c.yaml --gpu-memory inf", "argument --gpu-memory: 'inf' is no number from 0"),
            ("plan c.yaml --nodes -1", "argument --nodes: '-1' is no number from 0"),
        ],
    )
    def test_wrong_arguments(self, line, said, capsys):
        with pytest.raises(SystemExit) as left:
            main(line.split())
        assert left.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"usage: ccscale {line.split()[0]} ")
        last = err.splitlines()[-1]
        assert "error: " in last
        assert last.endswith(said)

    @pytest.mark.parametrize(("line", "verb"), [([], ""), (["shards"], " shards")])
    def test_without_a_command_the_help(self, line, verb, capsys):
        assert main(line) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"usage: ccscale{verb} [-h]")
        assert "show this help message" in out
        assert err == ""

    def test_version(self, capsys):
        with pytest.raises(SystemExit) as left:
            main(["--version"])
        assert left.value.code == 0
        assert capsys.readouterr() == (f"ccscale {version('ccscale')}\n", "")


class TestConfig:
    def test_lists_the_keys(self, capsys):
        assert main(["config"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert len(lines) == 2 * len(describe_keys())
        assert lines[0] == "run  (str or null; null; may change under a run)"
        for key, kind, default, may_change, description in describe_keys():
            assert f"{key}  ({kind}; {default}; {may_change})\n    {description}\n" in out

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
        assert done.stdout == "run  (str or null; null; may change under a run)\n"
        assert done.stderr == ""


class TestHome:
    """``~`` in front of a path, which the shell leaves alone behind a ``=`` or in quotes."""

    @pytest.mark.parametrize(
        ("line", "names"),
        [
            ("train ~/c.yaml", {"config": "c.yaml"}),
            ("launch ~/c.yaml", {"config": "c.yaml"}),
            ("plan ~/c.yaml", {"config": "c.yaml"}),
            ("config ~/c.yaml", {"config": "c.yaml"}),
            ("demo --out=~/d", {"out": "d"}),
            ("evaluate ~/r --shards=~/s", {"run": "r", "shards": "s"}),
            ("predict ~/r --shards=~/s --out=~/o/", {"run": "r", "shards": "s", "out": "o/"}),
            ("report ~/r --compare=~/s --out=~/o", {"run": "r", "compare": "s", "out": "o"}),
            ("export ~/r ~/o", {"run": "r", "out": "o"}),
            ("shards make folder ~/a ~/o --classes=~/l", {"paths": ["a", "o"], "classes": "l"}),
            ("shards index ~/a", {"dir": "a"}),
            ("shards verify ~/a", {"dir": "a"}),
            ("shards info ~/a --preview=~/p.png", {"dir": "a", "preview": "p.png"}),
        ],
    )
    def test_in_every_verb(self, line, names, monkeypatch):
        monkeypatch.setenv("HOME", "/home/me")
        args = build_parser().parse_args(line.split())
        for name, expected in names.items():
            found = getattr(args, name)
            many = found if isinstance(found, list) else [found]
            wanted = expected if isinstance(expected, list) else [expected]
            assert [str(one) for one in many] == [f"/home/me/{one}" for one in wanted]

    def test_whatever_is_named_as_a_folder_or_file(self, monkeypatch):
        """Options to come, too."""
        monkeypatch.setenv("HOME", "/home/me")
        seen = set()
        for name, parser in commands(build_parser()):
            for action in parser._actions:
                if re.search(r"\b(DIR|FILE|RUN2?|CONFIG|OUT|SOURCE|PATH)\b", str(action.metavar)):
                    assert action.type is not None, f"{name} {action.dest}"
                    assert str(action.type("~/x")) == "/home/me/x", f"{name} {action.dest}"
                    seen.add(f"{name} {action.dest}")
        assert {"train config", "predict out", "make paths", "launch scripts"} <= seen

    def test_a_run_is_trained_in_it(self, shards, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        settings = small_settings(Path("~/shards"), Path("~/runs/x"), train__max_steps=1)
        (tmp_path / "shards").symlink_to(shards)
        write_config(tmp_path, settings)
        assert main(["train", "~/config.yaml"]) == 0
        assert (tmp_path / "runs" / "x" / "metrics.jsonl").exists()
        assert not (tmp_path / "~").exists()


class TestRecipes:
    def test_a_recipe_by_name(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "digits").mkdir()  # a folder is no config
        for name in ("folder", "digits", "cifar10-modern"):
            assert main(["config", name]) == 0
            (tmp_path / "resolved.yaml").write_text(capsys.readouterr().out)
            assert load_config(tmp_path / "resolved.yaml") == load_config(EXAMPLES / f"{name}.yaml")

    def test_a_file_of_that_name_comes_first(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "folder").write_text("data: {shards: mine}\nmodel: {clusters: 3}\n")
        assert main(["config", "folder"]) == 0
        assert "shards: mine\n" in capsys.readouterr().out

    def test_they_are_listed(self, capsys):
        assert main(["config", "--recipes"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
        for line in lines:
            name, about = line.split(maxsplit=1)
            assert (EXAMPLES / f"{name}.yaml").read_text().startswith(f"# {about}\n")

    def test_what_is_wrong_in_one(self, refused):
        assert refused("train", "folder", "run=x", "data.shards=/none").startswith("there is no folder /none")
        assert refused("train", "folder", "run=null").startswith("the config has no key 'run'")
        assert refused("config", "folder", "modle.clusters=3").startswith("override 'modle.clusters=3': ")

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("cifar-10", "; did you mean 'cifar10'"),
            ("configs/folder.yml", "; did you mean the recipe 'folder'?"),
            ("pyproject.toml/digits", "; did you mean the recipe 'digits'?"),
            ("recipes/../digits", "; did you mean the recipe 'digits'?"),
            ("zzz", "; `ccscale config --recipes` lists those that come with ccscale"),
        ],
    )
    def test_nearest(self, refused, tmp_path, monkeypatch, name, hint):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pyproject.toml").write_text("")
        assert refused("train", name).startswith(f"there is no config file {name}{hint}")

    def test_a_run_s_folder_in_place_of_its_config(self, refused, tmp_path):
        (tmp_path / "config.yaml").write_text("")
        assert refused("train", tmp_path).endswith(f"it is a folder: its config is {tmp_path}/config.yaml")


class TestInterrupt:
    """Ctrl-C outside of training: one sentence, and 75 where the same command goes on."""

    @pytest.mark.parametrize(
        ("work", "line", "code"),
        [
            ("evaluate.evaluate.evaluate_run", "evaluate RUN", 130),
            ("report.report.report_run", "report RUN", 130),
            ("evaluate.opened.run_and_checkpoint", "export RUN OUT", 130),
            ("cli.shards.verify.check", "shards verify RUN", 130),
            ("evaluate.predict.predict_run", "predict RUN --shards DIR --out t.csv", 75),
            ("cli.shards.make.make_shards", "shards make digits OUT", 75),
            ("demo.demo", "demo", 75),
        ],
    )
    def test_it(self, monkeypatch, capfd, tmp_path, work, line, code):
        def interrupted(*arguments: object, **options: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(600)

        monkeypatch.setattr(f"ccscale.{work}", interrupted)
        monkeypatch.chdir(tmp_path)
        assert main(line.split()) == code
        said = "interrupted; the same command again goes on from there" if code == 75 else "interrupted"
        assert capfd.readouterr().err.splitlines() == [said]


class TestMistakes:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("trian", "there is no command 'ccscale trian'; did you mean 'train'?"),
            ("shards mak", "there is no command 'ccscale shards mak'; did you mean 'make'?"),
            ("launch", "launch needs a CONFIG: a YAML file, or a recipe (`ccscale config --recipes`)"),
            ("launch digits --scripts x", "--scripts submits nothing: leave out CONFIG"),
            ("zzz", "there is no command 'ccscale zzz'; `ccscale --help` lists them"),
        ],
    )
    def test_wrong_command(self, refused, line, said):
        assert refused(*line.split()) == said

    @pytest.fixture
    def config(self, shards, tmp_path) -> Path:
        return write_config(tmp_path, small_settings(shards, tmp_path / "run"))

    @pytest.mark.parametrize("call", [evaluate_run, report_run])
    def test_fewer_workers_than_none(self, call, run):
        with pytest.raises(InputError, match=r"^workers is -1: give 0 "):
            call(run, workers=-1)

    def test_unknown_key(self, refused, config):
        assert refused("train", config, "train.lrr=1").startswith(
            "override 'train.lrr=1': there is no key 'train.lrr'; did you mean 'train.lr'"
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

    def test_in_a_process_of_its_own(self, tmp_path):
        done = python("-m", "ccscale", "train", str(tmp_path / "none.yaml"))
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr
            == f"error: there is no config file {tmp_path}/none.yaml; `ccscale config --recipes` lists those that "
            "come with ccscale\n"
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
            "import atexit, sys, ccscale.cli.main as cli\n"
            f"cli.main = lambda: atexit.register(print, 'tidied up') and ({call})\n"
            "cli.entry()"
        )
        done = python("-c", program)
        assert (done.returncode, done.stdout) == (code, "tidied up\n")

    def test_option_of_deepspeed_s_launcher_is_dropped(self, refused, tmp_path):
        assert refused("--local_rank=0", "train", tmp_path / "none.yaml").startswith(
            "there is no config file"
        )
