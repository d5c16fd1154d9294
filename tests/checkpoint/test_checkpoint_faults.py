"""A save that meets a fault at any of its points leaves a complete checkpoint, and the run goes on exactly."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings, write_config
from harness.save_faults import KILLED, serve_saves, serve_training
from lives import server
from runs import SAME, difference, steps

from ccscale import checkpoint
from ccscale.checkpoint.metrics_file import METRICS

pytestmark = pytest.mark.slow

START, SAVED, STOP = 2, 3, 4  # steps: of the checkpoint that is there, of the save with a fault, of the end

Order = Callable[..., dict[str, Any]]
Serve = Callable[..., Order]


@pytest.fixture(scope="module")
def serve(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a process that carries out orders, a copy of one that has made the imports."""
    folder = tmp_path_factory.mktemp("orders")
    settings = small_settings(shards, folder, train__save_every=1, train__keep_last=1)
    settings["evaluate"] = {"batch": 150}
    config = str(write_config(folder, settings))
    started = []

    def start(what: Callable[..., None], *run: Path) -> Order:
        here, there = Pipe()
        process = server().Process(target=what, args=(there, dict(os.environ), config, *map(str, run)))
        process.start()
        there.close()
        started.append((here, process))

        def order(
            run: Path, stop: int = STOP, at: int | None = None, errno: int | None = None
        ) -> dict[str, Any]:
            here.send({"run": str(run), "stop": stop, "at": at, "errno": errno})
            return here.recv()

        return order

    yield start
    for here, process in started:
        here.close()
        process.join()


@pytest.fixture(scope="module")
def train(serve: Serve) -> Order:
    """Train a run up to a step, with a fault on the way or none."""
    return serve(serve_training)


@pytest.fixture(scope="module")
def save(serve: Serve, unbroken: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Order:
    """Save the state of step SAVED, with a fault on the way or none."""
    return serve(serve_saves, shutil.copytree(unbroken[START], tmp_path_factory.mktemp("save") / "run"))


@pytest.fixture(scope="module")
def unbroken(train: Order, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folders of an unbroken run, as it was after each of its steps."""
    root = tmp_path_factory.mktemp("unbroken")
    folders = {}
    for step in range(1, STOP + 1):
        assert train(root / "run", step)["code"] == 0
        folders[step] = shutil.copytree(root / "run", root / f"after-{step}")
    return folders


@pytest.fixture(scope="module")
def points(
    save: Order, unbroken: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, str]:
    """The points of a save, by their numbers: all, but of a file's pieces only the first, a middle and the last."""
    run = shutil.copytree(unbroken[START], tmp_path_factory.mktemp("points") / "run")
    names = save(run)["points"]
    chosen = {}
    for number, name in enumerate(names):
        same = [n for n, other in enumerate(names) if other == name]
        if number in (same[0], same[len(same) // 2], same[-1]) or not name.startswith("write"):
            chosen[number] = name
    kinds = {name.split()[0] for name in chosen.values()}
    assert kinds == {"open", "write", "fsync", "os.mkdir", "os.chmod", "os.rename", "os.remove", "os.rmdir"}
    assert any("COMMIT.json" in name for name in chosen.values())
    return chosen


def hashes(run: Path) -> dict[int, Any]:
    """What the marker of a run's newest complete checkpoint says of its files, by its step."""
    newest = checkpoint.find(run, pickles=True).newest
    assert newest is not None
    return {newest.step: json.loads((newest.path / "COMMIT.json").read_text())["files"]}


def is_unbroken(run: Path, unbroken: dict[int, Path]) -> bool:
    """Tell whether a finished run has the batches, losses and weights of the unbroken one, bit by bit."""
    weights = [
        {step: files["model.safetensors"] for step, files in hashes(folder).items()}
        for folder in (run, unbroken[STOP])
    ]
    return difference(steps(run), steps(unbroken[STOP])) == (True, SAME) and weights[0] == weights[1]


def test_a_power_cut_at_every_point(
    save: Order, train: Order, unbroken: dict[int, Path], points: dict[int, str], tmp_path: Path
) -> None:
    found: list[int] = []
    for turn, at in enumerate(points):
        run = shutil.copytree(unbroken[START], tmp_path / str(at))
        died = save(run, at=at)
        assert died["code"] == KILLED, died["said"]
        ((step, files),) = hashes(run).items()
        assert {step: files} == hashes(unbroken[step])  # complete, and bit by bit what it would have been
        found.append(step)
        if turn % 12 == 0 or found[-2:] == [START, SAVED] or at == [*points][-1]:
            shutil.copy(unbroken[step] / METRICS, run)  # the log is written before a save
            again = train(run)
            assert again["code"] == 0, again["said"]
            assert f"going on from step {step} of {STOP}" in again["said"]
            assert is_unbroken(run, unbroken)
            assert not list((run / "checkpoints").glob(".*"))
        shutil.rmtree(run)
    assert {*found} == {START, SAVED}
    assert found == sorted(found)  # the commit is one moment


def test_an_error_at_every_point(
    save: Order, train: Order, unbroken: dict[int, Path], points: dict[int, str], tmp_path: Path
) -> None:
    """It is told, and a complete checkpoint is there; the next save is a good one."""
    said = []
    for turn, at in enumerate(points):
        run = shutil.copytree(unbroken[START], tmp_path / str(at))
        done = save(run, at=at, errno=errno.ENOSPC)
        ((step, files),) = hashes(run).items()
        assert {step: files} == hashes(unbroken[step])
        assert (done["code"] == 0) == (step == SAVED)
        if points[at] not in ("os.rmdir /.staging", "os.mkdir /.staging"):  # empty, or there already: no loss
            assert "No space left on device" in done["said"], points[at]
        assert "Traceback" not in done["said"]
        if turn % 12 == 0:
            shutil.copy(unbroken[step] / METRICS, run)
            again = train(run, at=at, errno=errno.EROFS)
            assert again["code"] == 0, again["said"]
            assert is_unbroken(run, unbroken)
            said += again["said"].splitlines()
        shutil.rmtree(run)
    reason = "could not be written: [Errno 30] Read-only file system"
    assert any(line.startswith(f"warning: the checkpoint of step {SAVED} {reason}") for line in said)
    assert any(
        line.endswith(f"; the run continues, and the newest complete one is step {START}") for line in said
    )


def test_a_first_save_that_was_cut_off_begins_at_step_0(
    train: Order, unbroken: dict[int, Path], tmp_path: Path
) -> None:
    names = train(tmp_path / "names", 1)["points"]
    rename = next(n for n, name in enumerate(names) if name.startswith("os.rename /.staging/step-00000001"))
    assert train(tmp_path / "run", 1, rename)["code"] == KILLED
    again = train(tmp_path / "run")
    assert again["code"] == 0, again["said"]
    assert (
        f"going on from step 0 of {STOP}: its first checkpoint was cut off while it was being"
        in again["said"]
    )
    assert is_unbroken(tmp_path / "run", unbroken)
