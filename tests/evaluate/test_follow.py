"""A folder that grows: each shard once when it is finished, across restarts, until it is told to stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lives import Life, spawn

from ccscale.cli import main
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.evaluate.follow import ShardWatch


@pytest.fixture
def tars(shards) -> list[Path]:
    return sorted(shards.glob("*.tar"))


def polled(watch: ShardWatch) -> list[str]:
    found = watch.poll()
    return [] if found is None else [shard.url for shard in found.shards]


class TestWatch:
    def test_a_tar_without_manifest_once_it_rests(self, tars, tmp_path):
        watch = ShardWatch(str(tmp_path))
        assert polled(watch) == []
        shutil.copy(tars[0], tmp_path / "val-000000.tar")
        assert polled(watch) == []
        found = watch.poll()
        assert found is not None
        (shard,) = found.shards
        assert (shard.url, shard.split, shard.nsamples) == ("val-000000.tar", "val", 30)
        assert polled(watch) == []

    def test_a_tar_that_is_being_written(self, tars, tmp_path, capsys):
        data = tars[0].read_bytes()
        path = tmp_path / "train-000000.tar"
        watch = ShardWatch(str(tmp_path))
        for part in (data[: len(data) // 2], data[: -2 * 10240]):
            path.write_bytes(part)
            assert polled(watch) == polled(watch) == polled(watch) == []
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2  # once for each time that it rested
        assert all(line.startswith(f"not assigned yet: {path}: ") for line in told)
        path.write_bytes(data)
        assert [polled(watch) for _ in range(3)] == [[], ["train-000000.tar"], []]

    def test_a_manifest_that_grows(self, shards, tars, tmp_path):
        whole = Manifest.load(shards)
        watch = ShardWatch(str(tmp_path))
        handed_out = []
        for count in (1, 3, 3, 5):
            for tar in tars[:count]:
                shutil.copy(tar, tmp_path / tar.name)
            replace(whole, root=str(tmp_path), shards=whole.shards[:count], labelled={}).save()
            handed_out.append(polled(watch))
        names = [tar.name for tar in tars]
        assert handed_out == [names[:1], names[1:3], [], names[3:]]

    def test_a_listed_shard_waits_for_its_file(self, shards, tars, tmp_path):
        replace(Manifest.load(shards), root=str(tmp_path)).save()
        watch = ShardWatch(str(tmp_path))
        assert polled(watch) == []
        shutil.copy(tars[2], tmp_path / tars[2].name)
        (tmp_path / tars[3].name).write_bytes(tars[3].read_bytes()[:-1])
        assert polled(watch) == [tars[2].name]

    def test_splits(self, tars, tmp_path):
        for name in ("val-000000.tar", "test-000000.tar"):
            shutil.copy(tars[0], tmp_path / name)
        watch = ShardWatch(str(tmp_path), ["test"])
        assert [polled(watch) for _ in range(3)] == [[], ["test-000000.tar"], []]

    def test_a_key_that_another_tar_has_is_refused_as_the_index_does(self, shards, tars, tmp_path, capsys):
        watch = ShardWatch(str(tmp_path))
        shutil.copy(tars[0], tmp_path / "a.tar")
        assert [polled(watch) for _ in range(2)] == [[], ["a.tar"]]
        shutil.copy(tars[0], tmp_path / "b.tar")
        shutil.copy(tars[1], tmp_path / "c.tar")
        assert [polled(watch) for _ in range(3)] == [[], ["c.tar"], []]
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"not assigned yet: {tmp_path / 'b.tar'}: two samples have the key ")
        assert told.endswith(", the other in a.tar")

    def test_a_key_that_a_listed_shard_has(self, shards, tars, tmp_path):
        whole = Manifest.load(shards)
        replace(whole, root=str(tmp_path), shards=whole.shards[:1], labelled={}).save()
        for tar in tars[:2]:
            shutil.copy(tar, tmp_path / tar.name)
        shutil.copy(tars[0], tmp_path / "again.tar")
        watch = ShardWatch(str(tmp_path))
        assert [polled(watch) for _ in range(3)] == [[tars[0].name], [tars[1].name], []]

    def test_there_must_be_a_folder(self, tmp_path):
        with pytest.raises(InputError, match="make it, and --follow waits for shards in it"):
            ShardWatch(str(tmp_path / "none")).check()


def rows(folder: Path) -> list[str]:
    return [key for path in folder.glob("*.parquet") for key in pq.read_table(path)["key"].to_pylist()]


def wait_for(folder: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < end, "too few parts after a minute"
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
        wait_for(out, 1)
        for tar in tars[1:3]:
            shutil.copy(tar, growing)
        wait_for(out, 3)
        started[1].send_signal(signal.SIGINT)
        told = [process.communicate(timeout=60) for process in started]
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
        assert life.wait(60)
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
