"""The command line: help, wrong arguments, paths below ``~``, Ctrl-C, exit codes, and who speaks."""

import argparse
import os
import re
import signal
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import python, small_settings, write_config

from ccscale.cli.main import build_parser, main
from ccscale.cli.parser import IntermixedParser
from ccscale.cli.verbs import VERBS


def commands(parser, name=""):
    """Yield the name and the parser of every command."""
    if isinstance(parser, IntermixedParser):
        parser.fill()
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, its in action.choices.items():
                yield from commands(its, inner)


class TestHelp:
    @pytest.mark.parametrize("verb", ["", *(verb.name for verb in VERBS)])
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
            assert f"\n    {verb.name.split()[0]} " in out

    @pytest.mark.parametrize(
        ("build", "unwanted"),
        [
            ("build_parser()", "torch numpy pyarrow pydantic PIL fsspec importlib.metadata"),
            ("[verb.code for verb in VERBS if not verb.is_group]", "torch timm deepspeed sklearn"),
        ],
    )
    def test_help_is_at_once(self, build, unwanted):
        """The list of verbs waits for none of them, and none of them for what takes seconds."""
        code = (
            f"import sys; from ccscale.cli.main import build_parser, VERBS; {build}; "
            f"print([name for name in {unwanted.split()} if name in sys.modules])"
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
            ("predict run", "the following arguments are required: --out"),
            ("evaluate r --device cup", "'cup' is not one of auto, cpu, cuda; did you mean 'cpu'?"),
            ("launch c.yaml --cluster locl", "'locl' is not one of slurm, local; did you mean 'local'?"),
            ("evaluate r --workers -1", "argument --workers: '-1' is not a whole number of at least 0"),
            (
                "predict r --shards s --out o --workers 1.5",
                "argument --workers: '1.5' is not a whole number of at least 0",
            ),
            ("report r --workers -2", "argument --workers: '-2' is not a whole number of at least 0"),
            (
                "shards make digits o --workers 0",
                "argument --workers: '0' is not a whole number of at least 1",
            ),
            ("shards verify s --workers -1", "argument --workers: '-1' is not a whole number of at least 1"),
            ("shards index s --workers 0", "argument --workers: '0' is not a whole number of at least 1"),
            (
                "predict r --shards s --out o --merged 0",
                "argument --merged: '0' is not a whole number of at least 1",
            ),
            (
                "predict r --shards s --out o --follow --idle nan",
                "argument --idle: 'nan' is not a number of at least 0",
            ),
            ("plan c.yaml --gpu-memory inf", "argument --gpu-memory: 'inf' is not a number of at least 0"),
            ("cluster photos --clusters 1", "argument --clusters: '1' is not a whole number of at least 2"),
            ("plan c.yaml --nodes -1", "argument --nodes: '-1' is not a whole number of at least 0"),
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


class TestInterrupt:
    """Ctrl-C outside of training: one sentence, and 75 where the same command goes on."""

    @pytest.mark.parametrize(
        ("work", "line", "code"),
        [
            ("cli.main.build_parser", "evaluate RUN", 130),  # before the verb is known
            ("evaluate.evaluate.evaluate_run", "evaluate RUN", 130),
            ("report.report.report_run", "report RUN", 130),
            ("export.export.export_run", "export RUN OUT", 130),
            ("cli.shards.verify.verify", "shards verify RUN", 130),
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
        said = "interrupted; the same command continues from there" if code == 75 else "interrupted"
        assert capfd.readouterr().err.splitlines() == [said]


def test_in_a_process_of_its_own(tmp_path):
    done = python("-m", "ccscale", "train", str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: there is no config file {tmp_path}/none.yaml; `ccscale config --recipes` lists those that "
        "come with ccscale\n"
    )


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_only_the_first_rank_speaks_of_what_all_ranks_read(names, tmp_path, capsys, monkeypatch):
    for name, value in zip(names, ("1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    assert main(["train", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("call", "code"), [("1 / 0", 1), ("75", 75), ("sys.exit(2)", 2), ("0", 0)])
def test_the_process_ends_with_the_code_after_all_exit_handlers(call, code):
    program = (
        "import atexit, sys, ccscale.cli.main as cli\n"
        f"cli.main = lambda: atexit.register(print, 'tidied up') and ({call})\n"
        "cli.entry()"
    )
    done = python("-c", program)
    assert (done.returncode, done.stdout) == (code, "tidied up\n")
