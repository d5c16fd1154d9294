"""`predict --follow`: a folder that grows, across restarts, until it is told to stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lives import Life, spawn

from ccscale.cli.main import main


@pytest.fixture
def tars(shards) -> list[Path]:
    return sorted(shards.glob("*.tar"))


def rows(folder: Path) -> list[str]:
    return [key for path in folder.glob("*.parquet") for key in pq.read_table(path)["key"].to_pylist()]


def wait_for(folder: Path, count: int, processes: list[subprocess.Popen]) -> None:
    """Wait for parts; how long is up to the machine, which may be busy, but not beyond a process's end."""
    end = time.monotonic() + 200
    while len(list(folder.glob("*.parquet"))) < count:
        assert [process.poll() for process in processes] == [None] * len(processes)
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
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "ccscale", *command],
            env=os.environ | world | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        wait_for(out, 1, started)
        for tar in tars[1:3]:
            shutil.copy(tar, growing)
        wait_for(out, 3, started)
        started[1].send_signal(signal.SIGINT)
        told = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], told
    assert told[0][0] == f"{out}/: 90 images in 6 clusters\n"
    assert told[1][0] == ""
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
