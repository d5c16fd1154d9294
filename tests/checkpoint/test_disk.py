"""A disk that is full, read-only or slow in the middle of a run: the run goes on, says so, and saves again."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings
from harness.disks import Disk, small_disk
from runs import SAME, difference, steps

from ccscale import checkpoint
from ccscale.checkpoint import saver
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.errors import Fault
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

pytestmark = pytest.mark.slow

STOP = 18


def config_of(shards: Path, run: Path, stop: int = STOP) -> Config:
    return parse_config(small_settings(shards, run, train__max_steps=stop, train__save_every=3))


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train_run(config_of(shards, run))
    return steps(run)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", 24 * 2**20) as disk:  # three checkpoints are 20 MB
        yield disk


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


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_the_run_goes_on(
    shards: Path,
    disk: Disk,
    unbroken: list[dict],
    at_step: Callable[[int, Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    """It says so, keeps what it has, and saves again; its log has all lines, and its steps are those of ever."""
    run, reason = disk.place / "run", "No space left on device"
    if trouble == "full":
        for step in range(5, 17):
            at_step(step, disk.fill)  # again: a save that fails gives back what it took
        at_step(17, disk.make_room)
    else:
        reason, read_only = "Read-only file system", disk.read_only(run)
        at_step(5, read_only.__enter__)
        at_step(17, lambda: read_only.__exit__(None, None, None))
    assert train_run(config_of(shards, run)).finished
    said = capfd.readouterr().err
    warnings = re.findall("warning: the checkpoint of step .* could not be written.*", said)
    assert len(warnings) == 4
    assert all(reason in warning for warning in warnings)
    assert "checkpoint of step 6 could not" in warnings[0]
    assert "the run continues, and the newest complete one is step 3" in warnings[0]
    assert "(4 saves have failed)" in warnings[-1]
    # It is written when a line was: not on the read-only disk.
    assert said.count("warning: cannot write TensorBoard's file ") == (trouble == "full")
    assert said.count(f"metrics.jsonl cannot be written ({reason})") == 1
    assert "metrics.jsonl can be written again" in said
    assert "Traceback" not in said
    assert difference(steps(run), unbroken) == (True, SAME)
    assert checkpoint.find(run, pickles=True).newest.step == STOP
    assert steps(run)[-1]["failed_saves"] == 4


def test_saves_that_fail_behind_training(
    shards: Path,
    disk: Disk,
    unbroken: list[dict],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nobody waits for them: steps go on, and the run is saved again when the disk takes it."""
    run, taken, take = disk.place / "run", [0], Stepper.take

    def acting(self: Stepper, *arguments: Any) -> object:
        taken[0] += 1
        if 5 <= taken[0] < 17:
            disk.fill()
        elif taken[0] == 17:
            disk.make_room()
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", acting)
    assert train_run(config_of(shards, run)).finished
    said = capfd.readouterr().err
    assert (
        len(re.findall("warning: the checkpoint of step .* could not be written.*No space left", said)) >= 2
    )
    assert "metrics.jsonl can be written again" in said
    assert difference(steps(run), unbroken) == (True, SAME)
    assert checkpoint.find(run, pickles=True).newest.step == STOP
    assert steps(run)[-1]["failed_saves"] >= 2


def test_a_last_save_that_fails_is_a_fault_and_the_run_can_be_gone_on_with(
    shards: Path, disk: Disk, unbroken: list[dict], at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    run = disk.place / "run"
    at_step(17, disk.fill)
    reason = "No space left on device"
    with pytest.raises(
        Fault,
        match=rf"step 18 could not be written: .*{reason}.*; the newest complete one is step 15: free some space",
    ):
        train_run(config_of(shards, run))
    assert checkpoint.find(run, pickles=True).newest.step == 15
    before = os.listdir(run / "checkpoints")
    disk.make_room()
    assert os.listdir(run / "checkpoints") == before
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
    config = config_of(shards, tmp_path / "run", 12)
    taken, waits, writes, write_files, finish = [0], [0], [], saver.write_files, saver.Saver.finish

    def slow(*arguments: object) -> None:
        """Write when training waits for it: at the next save, or at its end."""
        begun, number = taken[0], len(writes) + 1
        while waits[0] <= number:
            time.sleep(0.02)
        time.sleep(0.5)
        writes.append((begun, taken[0]))
        write_files(*arguments)

    def counted_finish(self: saver.Saver) -> None:
        waits[0] += 1
        finish(self)

    take = Stepper.take

    def counted(self: Stepper, *arguments: Any) -> object:
        taken[0] += 1
        return take(self, *arguments)

    monkeypatch.setattr(saver, "write_files", slow)
    monkeypatch.setattr(saver.Saver, "finish", counted_finish)
    monkeypatch.setattr(saver, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(Stepper, "take", counted)
    assert train_run(config).finished
    assert len(writes) == 4
    assert [end for _, end in writes] == [6, 9, 12, 12]
    assert "waiting until the checkpoint of step 3 is written" in capfd.readouterr().err
    assert difference(steps(tmp_path / "run"), unbroken[:12]) == (True, SAME)
    monkeypatch.undo()
    # The last but one was written while training went on: what follows from it is the unbroken run.
    newest = checkpoint.find(tmp_path / "run").newest
    os.rename(newest.path, tmp_path / "away")
    assert train_run(config).finished
    assert difference(steps(tmp_path / "run"), unbroken[:12]) == (True, SAME)
