"""Signals to real processes: those that come during the save, and those that reach loader workers."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_settings
from lives import Life, fork
from runs import BOUNDS, difference, steps

from ccscale.checkpoint import find
from ccscale.config.file import parse_config
from ccscale.preempt import SIGNALS
from ccscale.train.train import train_run

pytestmark = [pytest.mark.dist, pytest.mark.slow]
SECONDS = 120.0
FOLLOWING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def lives() -> Iterator[list[Life]]:
    """For what a test starts; whatever comes, nothing is left of it."""
    lives: list[Life] = []
    yield lives
    for life in lives:
        life.kill_group()
        assert life.wait(SECONDS)


def command(folder: Path, settings: dict) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings))
    return ["train", str(path)]


def signal_all(life: Life, number: int) -> None:
    """Send a signal to all ranks and their workers, as a job scheduler does."""
    for group in life.groups:
        os.killpg(group, number)


def workers_of(life: Life) -> set[int]:
    """Return the processes of a life's groups but the ranks."""
    return {
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) in life.groups
    } - {*life.groups}


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def is_saving(run: Path) -> bool:
    try:
        return bool(os.listdir(run / "checkpoints/.staging"))
    except FileNotFoundError:
        return False


def flush_slowly() -> None:
    """Let a save take a second, so that it is seen on a busy machine, too."""
    flush = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.2)
        flush(descriptor)

    os.fsync = slow


def test_signals_that_follow_the_first_do_not_spoil_the_save(
    shards: Path, tmp_path: Path, lives: list[Life]
) -> None:
    run = tmp_path / "run"
    settings = small_settings(shards, run, data__workers=1, train__epochs=1000, train__save_every=1000)
    settings["train"] |= {"precision": "fp64", "zero": 1}
    life = Life(fork(command(tmp_path, settings), flush_slowly), 2)
    lives.append(life)
    while life.code() is None and len(steps(run)) < 3:
        time.sleep(0.01)
    assert not (run / "checkpoints").exists()
    signal_all(life, signal.SIGUSR1)
    sent = 0
    while life.code() is None and not any(run.glob("checkpoints/step-*")):
        if is_saving(run):
            signal_all(life, FOLLOWING[sent % len(FOLLOWING)])
            sent += 1
        time.sleep(0.002)
    assert life.wait(SECONDS)
    assert life.code() == 75, life.said()
    assert sent > 0
    done = len(steps(run))
    assert f"stopped on SIGUSR1 at step {done} of" in life.said()
    found = find(run)
    assert found.newest is not None
    assert (found.newest.step, found.passed_over) == (done, ())
    settings["train"] |= {"max_steps": done + 3}
    assert train_run(parse_config(settings)).finished
    assert train_run(parse_config(settings | {"run": str(tmp_path / "unbroken")})).finished
    digests, worst = difference(steps(run), steps(tmp_path / "unbroken"))
    assert digests
    assert worst <= BOUNDS["fp64"]


def test_loader_workers_ignore_signals(shards: Path, tmp_path: Path, lives: list[Life]) -> None:
    run = tmp_path / "run"
    settings = small_settings(shards, run, data__workers=2, train__epochs=1000, train__max_steps=5000)
    life = Life(fork(command(tmp_path, settings)))
    lives.append(life)
    while life.code() is None and len(steps(run)) < 3:
        time.sleep(0.01)
    workers = workers_of(life)
    assert len(workers) >= 2, life.said()
    for number in SIGNALS:
        for pid in workers:
            os.kill(pid, number)
        seen = len(steps(run))
        while life.code() is None and len(steps(run)) < seen + 10:  # more than were read ahead
            time.sleep(0.01)
        assert life.code() is None, (number, life.said())
        assert workers_of(life) == workers
    os.kill(life.groups[0], signal.SIGTERM)
    assert life.wait(SECONDS)
    assert life.code() == 75, life.said()
    assert find(run).newest is not None
    assert not workers_of(life)
