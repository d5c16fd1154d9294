"""A disk that is full, read-only or slow in the middle of a run: the run goes on, says so, and saves again."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings
from runs import SAME, difference, steps

from ccscale import checkpoint
from ccscale.checkpoint import saver
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.errors import Fault
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

pytestmark = pytest.mark.slow

STOP = 12


def config_of(shards: Path, run: Path) -> Config:
    return parse_config(small_settings(shards, run, train__max_steps=STOP, train__save_every=3))


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train_run(config_of(shards, run))
    return steps(run)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=False
    ).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something right before a step of the run, counted from 1, while no save is under way."""
    begin = saver.Saver.begin

    def begin_and_finish(self: saver.Saver, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self.finish()

    monkeypatch.setattr(saver.Saver, "begin", begin_and_finish)
    acts: dict[int, Callable[[], object]] = {}
    taken, take = [0], Stepper.take

    def acting(self: Stepper, *arguments: Any) -> object:
        taken[0] += 1
        acts.pop(taken[0], lambda: None)()
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", acting)
    return acts.__setitem__


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def mount_read_only(run: Path) -> None:
    subprocess.run(["mount", "--bind", str(run), str(run)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(run)], check=True)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_the_run_goes_on(
    shards: Path,
    disk: Path,
    unbroken: list[dict],
    at_step: Callable[[int, Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    run = disk / "run"
    if trouble == "full":
        at_step(5, lambda: fill(disk))
        at_step(11, lambda: os.unlink(disk / "ballast"))
    else:
        at_step(5, lambda: mount_read_only(run))
        at_step(11, lambda: subprocess.run(["umount", str(run)], check=True))
    assert train_run(config_of(shards, run)).finished
    said = capfd.readouterr().err
    assert "warning: the checkpoint of step 6 could not be written: " in said
    assert "the run goes on, and the newest complete one is step 3" in said
    assert "the checkpoint of step 9 could not be written: " in said
    assert "(2 saves have failed)" in said
    # It is written when a line was: not on the read-only disk.
    assert said.count("warning: TensorBoard's file cannot be written") == (trouble == "full")
    if trouble == "read-only":  # on the full disk there is room for a line left in the file's last block
        assert said.count("metrics.jsonl cannot be written (Read-only file system)") == 1
        assert "metrics.jsonl can be written again" in said
    assert "Traceback" not in said
    assert difference(steps(run), unbroken) == (True, SAME)
    assert checkpoint.find(run, pickles=True).newest.step == STOP
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["failed_saves"] for line in lines if line["kind"] == "step"][-1] == 2


def test_a_last_save_that_fails_is_a_fault_and_the_run_can_be_gone_on_with(
    shards: Path, disk: Path, unbroken: list[dict], at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    run = disk / "run"
    at_step(11, lambda: fill(disk))
    with pytest.raises(
        Fault, match=r"step 12 could not be written: .*; the newest complete one is step 9: make room"
    ):
        train_run(config_of(shards, run))
    assert checkpoint.find(run, pickles=True).newest.step == 9
    os.unlink(disk / "ballast")
    assert train_run(config_of(shards, run)).finished
    assert difference(steps(run), unbroken) == (True, SAME)


def test_a_slow_disk_is_not_waited_for_until_the_next_save(
    shards: Path,
    tmp_path: Path,
    unbroken: list[dict],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What is saved is the state at its step, though training has gone on when it is written."""
    taken, writes, write_files = [0], [], saver.write_files

    def slow(*arguments: object) -> None:
        begun = taken[0]
        time.sleep(0.5)
        writes.append((begun, taken[0]))
        write_files(*arguments)

    take = Stepper.take

    def counted(self: Stepper, *arguments: Any) -> object:
        taken[0] += 1
        return take(self, *arguments)

    monkeypatch.setattr(saver, "write_files", slow)
    monkeypatch.setattr(saver, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(Stepper, "take", counted)
    assert train_run(config_of(shards, tmp_path / "run")).finished
    assert len(writes) == 4
    assert any(end > begin for begin, end in writes)
    assert "waiting for the checkpoint of step 3, which is still being written" in capfd.readouterr().err
    assert difference(steps(tmp_path / "run"), unbroken) == (True, SAME)
    monkeypatch.undo()
    # The last but one was written while training went on: what follows from it is the unbroken run.
    newest = checkpoint.find(tmp_path / "run").newest
    os.rename(newest.path, tmp_path / "away")
    assert train_run(config_of(shards, tmp_path / "run")).finished
    assert difference(steps(tmp_path / "run"), unbroken) == (True, SAME)
