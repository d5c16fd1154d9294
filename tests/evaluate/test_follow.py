"""`predict --follow`: a folder that grows, across restarts, until it is told to stop."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lives import Life, fork, spawn

from ccscale.cli.main import main


@pytest.fixture
def tars(shards) -> list[Path]:
    return sorted(shards.glob("*.tar"))


def rows(folder: Path) -> list[str]:
    return [key for path in folder.glob("*.parquet") for key in pq.read_table(path)["key"].to_pylist()]


def wait_for(folder: Path, count: int, life: Life) -> None:
    """Wait for parts; how long is up to the machine, which may be busy, but not beyond a process's end."""
    end = time.monotonic() + 200
    while len(list(folder.glob("*.parquet"))) < count:
        assert life.codes() == [None] * life.ranks, life.said()
        assert time.monotonic() < end, "too few parts after five minutes"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.dist
def test_two_ranks_follow_until_a_signal_and_go_on(run, tars, tmp_path):
    """Shards appear while two ranks look on; a signal to one of them ends both with exit code 0."""
    growing, out = tmp_path / "growing", tmp_path / "parts"
    growing.mkdir()
    shutil.copy(tars[0], growing)
    command = [
        "predict",
        str(run),
        "--shards",
        str(growing),
        "--out",
        f"{out}/",
        "--follow",
        "--workers",
        "0",
    ]
    told = tmp_path / "told"
    life = Life(fork(command, out=told), 2)
    try:
        wait_for(out, 1, life)
        for tar in tars[1:3]:
            shutil.copy(tar, growing)
        wait_for(out, 3, life)
        os.kill(life.groups[1], signal.SIGINT)
        life.finish(200)
    finally:
        life.kill_group()
    assert told.read_text() == f"{out}/: 90 images in 6 clusters\n"  # by one of the two
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}

    for tar in tars[3:]:
        shutil.copy(tar, growing)
    assert main([*command, "--idle", "2.5"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(rows(out)) == len(set(rows(out))) == 150


@pytest.mark.slow
def test_a_signal_is_heard_while_it_loads(run, tmp_path):
    """It ends as it would later, in order."""
    (tmp_path / "growing").mkdir()
    options = ["--shards", str(tmp_path / "growing"), "--out", f"{tmp_path}/parts/", "--follow"]
    life = Life(spawn([sys.executable, "-c", STRUCK, "predict", str(run), *options]))
    try:
        assert life.wait(200)
    finally:
        life.kill_group()
    assert life.code() == 0, life.said()
    assert (tmp_path / "parts").is_dir()


# The command, which is told to stop when it begins to import torch.
STRUCK = """
import os, signal, sys
class Watch:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(cls)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Watch)
from ccscale.cli import entry
entry()
"""


def test_nothing_comes(run, tmp_path, capfd):
    (tmp_path / "growing").mkdir()
    arguments = ["--shards", str(tmp_path / "growing"), "--out", f"{tmp_path}/parts/", "--workers", "0"]
    assert main(["predict", str(run), *arguments, "--follow", "--idle", "0"]) == 0
    assert capfd.readouterr().out == f"{tmp_path}/parts/: 0 images in 6 clusters\n"
