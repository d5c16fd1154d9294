"""Ranks that write at their own speed, or fail to, come to the same end: real processes."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.ranks import run_ranks

from ccscale import dist
from ccscale.checkpoint import Saver, Search, find, saver
from ccscale.checkpoint.commit import WEIGHTS_FILE
from ccscale.checkpoint.rank_files import write_files
from ccscale.checkpoint.snapshot import StateCopy
from ccscale.config.file import parse_config
from ccscale.errors import Fault

WORLD = 2
rmtree = shutil.rmtree


def remove_slowly(path: Path, **options: Any) -> None:
    time.sleep(0.3)
    rmtree(path, **options)


def save_often(rank: int, run: str, slow: bool) -> dict[str, Any]:
    """Save after steps 1 to 4: rank 1 is slow at step 1, fails at step 2, and rank 0 fails at step 4, the last.

    Where `slow`, the disk takes its time to remove a folder.
    """
    if slow:
        shutil.rmtree = remove_slowly  # type: ignore[assignment]
    name = WEIGHTS_FILE if rank == 0 else "deepspeed/rank_1.pt"
    faults = {(1, 2): OSError(28, "No space left on device"), (0, 4): OSError(30, "Read-only file system")}

    trained_on = threading.Event()

    def write(folder: Path, rank: int, snapshot: Any) -> None:
        step = int(folder.name.removeprefix("step-"))
        if (rank, step) == (1, 1):
            assert trained_on.wait(60)
        if (rank, step) in faults:
            raise faults[rank, step]
        write_files(folder, rank, snapshot)

    saver.take_snapshot = lambda engine, state: {
        name: StateCopy.of({"module": {"w": torch.ones(3)}, **state})
    }
    saver.write_files = write  # type: ignore[assignment]
    config = parse_config({"run": run, "data": {"shards": "-"}, "model": {"clusters": 2}})
    seen, fault = [], ""
    with Saver(None, config, Search(None, ())) as mine:
        mine.begin(1, {}, {})
        turns = 0
        while mine.is_busy:
            mine.count(*dist.sum_integers(mine.votes()))
            time.sleep(0.01)
            turns += 1
            if turns > 20:
                trained_on.set()
        for step in (2, 3):
            seen.append((mine.saved, mine.failures))
            mine.begin(step, {}, {})
        try:
            mine.save(4, {}, {})
        except Fault as error:
            fault = f"{error}"
        seen.append((mine.saved, mine.failures))
    return {"seen": seen, "turns": turns, "fault": fault}


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_ranks_agree(tmp_path: Path, slow: bool) -> None:
    first, second = run_ranks(WORLD, save_often, str(tmp_path), slow)
    assert first == second
    assert first["turns"] > 20  # training would have gone on meanwhile
    # At step 3 the save of step 2 is waited for, and has failed; the last one is a fault on all ranks.
    assert first["seen"] == [(1, 0), (1, 0), (3, 2)]
    assert first["fault"].startswith(
        "the checkpoint of step 4 could not be written: [Errno 30] Read-only file"
    )
    found = find(tmp_path, pickles=True)
    assert found.newest is not None
    assert (found.newest.step, found.newest.world) == (3, WORLD)
    marker = json.loads((found.newest.path / "COMMIT.json").read_text())
    assert {WEIGHTS_FILE, "deepspeed/rank_1.pt"} < marker["files"].keys()
    # The last one failed, and the others have left nothing.
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000001",
        "step-00000003",
    ]


def save_again(rank: int, run: str) -> tuple[int, int]:
    """Save a step that rank 1 could not write at first, at once again; return what is saved, and failed."""
    shutil.rmtree = remove_slowly  # type: ignore[assignment]
    name = WEIGHTS_FILE if rank == 0 else "deepspeed/rank_1.pt"
    saver.take_snapshot = lambda engine, state: {
        name: StateCopy.of({"module": {"w": torch.ones(3)}, **state})
    }
    faults = [OSError(28, "No space left on device")] if rank == 1 else []

    def write(folder: Path, rank: int, snapshot: Any) -> None:
        if faults:
            raise faults.pop()
        write_files(folder, rank, snapshot)

    saver.write_files = write  # type: ignore[assignment]
    config = parse_config({"run": run, "data": {"shards": "-"}, "model": {"clusters": 2}})
    with Saver(None, config, Search(None, ())) as mine:
        mine.begin(2, {}, {})
        mine.save(2, {}, {})
    return mine.saved, mine.failures


@pytest.mark.dist
@pytest.mark.slow
def test_a_save_that_failed_does_not_harm_the_next_one_of_its_step(tmp_path: Path) -> None:
    assert run_ranks(WORLD, save_again, str(tmp_path)) == [(2, 1), (2, 1)]
    assert find(tmp_path, pickles=True).newest.step == 2
