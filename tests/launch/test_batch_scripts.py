"""The batch scripts that come with the package."""

import json
from pathlib import Path

import pytest

from ccscale.cli.main import main

SCRIPTS = Path(__file__).parents[2] / "slurm"
NAMES = {path.name for path in SCRIPTS.iterdir()}


def test_they_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {"train.sbatch", "README.md"} <= NAMES
    assert main(["launch", "--scripts=~/a/b"]) == 0
    assert set(capsys.readouterr().out.splitlines()) == {f"{tmp_path}/a/b/{name}" for name in NAMES}
    assert main(["launch", "--scripts", f"{tmp_path}/a/b", "--json"]) == 0  # again: they are the same
    assert {Path(path).name for path in json.loads(capsys.readouterr().out)["scripts"]} == NAMES
    written = {path.name: path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()}
    assert written == {path.name: path.read_bytes() for path in SCRIPTS.iterdir()}


def test_one_that_was_edited_stays(refused, tmp_path):
    (tmp_path / "train.sbatch").write_text("#SBATCH --partition=mine\n")
    message = refused("launch", "--scripts", tmp_path)
    assert (
        message
        == f"{tmp_path}/train.sbatch exists and differs from what would be written: choose another folder"
    )


@pytest.mark.parametrize("name", ["file", "file/inner"])
def test_where_no_folder_can_be(refused, tmp_path, name):
    (tmp_path / "file").write_text("")
    assert refused("launch", "--scripts", tmp_path / name).startswith("the scripts cannot be written to ")
