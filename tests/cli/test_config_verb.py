"""``ccscale config``: keys, schema, resolved configs and recipes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_config

from ccscale.cli.main import main
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys

EXAMPLES = Path(__file__).parents[2] / "configs"


class TestConfig:
    def test_lists_the_keys(self, capsys):
        assert main(["config"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert len(lines) == 2 * len(describe_keys())
        assert lines[0] == "run  (str or null; null; may change on resume)"
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
        assert done.stdout == "run  (str or null; null; may change on resume)\n"
        assert done.stderr == ""

    @pytest.mark.parametrize(
        ("command", "code", "told"),
        [
            (
                "ccscale config > /dev/full",
                1,
                "standard output or a file cannot be written to (No space left on device): make room there, or "
                "write elsewhere",
            ),
            ("ccscale config >&-", 0, ""),
            ("ccscale cluster x", 2, "the current folder has been deleted: change to another one"),
        ],
    )
    def test_where_nothing_can_be_written_or_found(self, tmp_path, command, code, told):
        line = command.replace("ccscale", f"{sys.executable} -m ccscale")
        path = {"PYTHONPATH": str(EXAMPLES.parent)} | os.environ
        gone = f"cd {tmp_path} && rmdir {tmp_path} && {line}"
        done = subprocess.run(gone, shell=True, capture_output=True, text=True, timeout=60, env=path)
        assert (done.returncode, done.stderr) == (code, told and f"error: {told}\n")


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
