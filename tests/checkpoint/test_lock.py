"""One process at a time writes a folder; a dead one is passed over; one that was passed over stops."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings

from ccscale import atomic, process_name
from ccscale.checkpoint import lock, saver
from ccscale.checkpoint.lock import NAME, FolderLock, LockLost
from ccscale.checkpoint.rank_files import write_files
from ccscale.cli.main import main
from ccscale.config.file import parse_config
from ccscale.errors import InputError
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

ELSEWHERE = {"boot": "of another machine", "host": "node7", "process": 1234, "job": "77"}


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the test."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)


def write_lock(folder: Path, count: int = 1, name: str = NAME, token: str = "t", **facts: Any) -> Path:
    """Write the lock of another process; by default one that was begun three hours ago."""
    begun = time.time() - 3 * 3600
    name_of = process_name.own_name() | {"token": token, "command": "ccscale train c.yaml", "begun": begun}
    path = folder / name
    atomic.write_bytes(path, f"{json.dumps(name_of | facts)}\n{count:020d}\n".encode())
    return path


def test_two_writers(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    write_lock(tmp_path, process=other.pid, started=process_name.begin_of(other.pid), host="here", job="12")
    with FolderLock(tmp_path) as mine, pytest.raises(InputError) as caught:
        mine.take()
    assert str(caught.value) == (
        f"{tmp_path} is in use by `ccscale train c.yaml` (process {other.pid} on here, job 12, for 3 h): "
        "wait until it ends, or stop it; only one process at a time may write to a folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_it_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path) as mine:
            mine.take()
            mine.check()
            assert [path.name for path in tmp_path.iterdir()] == [NAME]
        assert not list(tmp_path.iterdir())


def test_a_folder_is_created_with_its_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "new") as mine:
        mine.create()
        assert [path.name for path in (tmp_path / "new").iterdir()] == [NAME]


def test_a_lock_that_was_not_taken_holds_nobody_up(tmp_path: Path) -> None:
    write_lock(tmp_path)
    with FolderLock(tmp_path) as mine:
        mine.check()
    assert (tmp_path / NAME).exists()


def test_within_a_thread_it_may_be_taken_again(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as outer:
        outer.take()
        with FolderLock(tmp_path / "../" / tmp_path.name) as inner:
            inner.take()
        assert (tmp_path / NAME).exists()
        write_lock(tmp_path, **ELSEWHERE)
        with FolderLock(tmp_path) as inner:
            inner.take()
            with pytest.raises(LockLost):
                inner.check()


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "its number is another's now"])
def test_one_that_was_killed_is_passed_over_at_once(
    tmp_path: Path, other: subprocess.Popen[bytes], dead: int, ended: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    process = {"process": dead} if ended else {"process": other.pid, "started": "1"}
    write_lock(tmp_path, **process)
    begun = time.monotonic()
    with FolderLock(tmp_path) as mine:
        mine.take()
        mine.check()
    assert time.monotonic() - begun < lock.WATCH_SECONDS / 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ignored the lock of `ccscale train c.yaml` (process ")
    assert not list(tmp_path.iterdir())


def test_one_that_could_not_be_given_back_holds_this_process_up_no_more(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as mine:
        mine.take()
        left = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(left)  # as on a disk that was read-only then
    with FolderLock(tmp_path) as mine:
        mine.take()
        mine.check()


def test_one_that_has_ended_and_is_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "600"])
    begin = process_name.begin_of(process.pid)
    process.kill()
    while process_name.begin_of(process.pid) is not None:  # until it is a zombie
        time.sleep(0.01)
    write_lock(tmp_path, process=process.pid, started=begin)
    with FolderLock(tmp_path) as mine:
        mine.take()
    process.wait()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("whole", [True, False], ids=["of another machine", "cut off while it was made"])
def test_one_that_cannot_be_seen_and_stands_still_is_passed_over(
    tmp_path: Path, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if whole:
        write_lock(tmp_path, **ELSEWHERE, begun=time.time() + 9999)  # its clock is another one
    else:
        (tmp_path / NAME).touch()
    with FolderLock(tmp_path) as mine:
        mine.take()
    first, second = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is locked by " in first
    assert second.startswith("ignored the lock of ")
    if whole:
        assert "`ccscale train c.yaml` (process 1234 on node7, job 77, for 0 s)" in second


def test_one_of_another_machine_that_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    write_lock(tmp_path, **ELSEWHERE)
    threading.Timer(0.2, lambda: write_lock(tmp_path, count=2, **ELSEWHERE)).start()
    with FolderLock(tmp_path) as mine, pytest.raises(InputError, match="process 1234 on node7, job 77"):
        mine.take()
    assert json.loads((tmp_path / NAME).read_text().splitlines()[0])["host"] == "node7"


def test_the_count_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "COUNT_SECONDS", 0.01)
    with FolderLock(tmp_path) as mine:
        mine.take()
        before = (tmp_path / NAME).read_bytes()
        while (now := (tmp_path / NAME).read_bytes()) == before:
            time.sleep(0.01)
        assert now.splitlines()[0] == before.splitlines()[0]
        mine.check()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("seen", [True, False], ids=["of this machine", "of another"])
def test_of_many_that_pass_over_the_same_lock_one_gets_in(tmp_path: Path, dead: int, seen: bool) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for turn in range(20 if seen else 3):
            folder = tmp_path / str(turn)
            folder.mkdir()
            write_lock(folder, **({"process": dead} if seen else ELSEWHERE))
            # And one of those that would have passed over it before was killed in the middle of that.
            write_lock(folder, name=f"{NAME}-t", token="u", process=dead)
            assert sorted(race(folder, 6)) == ["in"] + ["refused"] * 5
            assert not list(folder.iterdir())
    finally:
        sys.setswitchinterval(interval)


def race(folder: Path, number: int) -> list[str]:
    """Start so many writers at once; tell how each fared. Whoever is in stays until all have tried."""
    barrier, outcomes = threading.Barrier(number), []

    def start() -> None:
        with FolderLock(folder) as mine:
            barrier.wait()
            try:
                mine.take()
                outcomes.append("in")
            except InputError:
                outcomes.append("refused")
            barrier.wait()
            mine.check()

    threads = [threading.Thread(target=start) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_one_that_was_passed_over_notices_and_leaves_the_other_s_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as mine:
        mine.take()
        write_lock(tmp_path, **ELSEWHERE)
        with pytest.raises(
            LockLost, match=r"was taken over by `ccscale train c.yaml` \(process 1234 on node7"
        ):
            mine.check()
    assert json.loads((tmp_path / NAME).read_text().splitlines()[0])["token"] == "t"


def test_one_that_was_removed_by_hand_is_made_again(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as mine:
        mine.take()
        (tmp_path / NAME).unlink()
        mine.check()
        assert (tmp_path / NAME).exists()


# ---- all that writes


@pytest.fixture
def locked(run: Path, tmp_path: Path, other: subprocess.Popen[bytes]) -> Path:
    """A run that another process writes."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    write_lock(folder, process=other.pid, started=process_name.begin_of(other.pid))
    return folder


WRITERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "train": lambda run, shards: ["train", str(run / "config.yaml"), f"run={run}"],
    "evaluate": lambda run, shards: ["evaluate", str(run)],
    "evaluate --merge": lambda run, shards: ["evaluate", str(run), "--shards", str(shards), "--merge"],
    "report": lambda run, shards: ["report", str(run)],
    "report into it": lambda run, shards: ["report", str(run), "--out", str(run / "other.html")],
    "predict into it": lambda run, shards: [
        *("predict", str(run), "--shards", str(shards), "--out", str(run / "table.csv"))
    ],
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_writers_are_refused(locked: Path, shards: Path, refused: Callable[..., str], writer: Any) -> None:
    assert refused(*writer(locked, shards)).startswith(f"{locked} is in use by `ccscale train c.yaml` (")


def test_what_only_reads_is_not(locked: Path, shards: Path, tmp_path: Path) -> None:
    common = ["--shards", str(shards), "--workers", "0", "--device", "cpu"]
    assert main(["evaluate", str(locked), "--no-probes", *common]) == 0
    assert main(["predict", str(locked), "--out", str(tmp_path / "table.csv"), *common]) == 0
    assert main(["export", str(locked), str(tmp_path / "network")]) == 0


def test_a_start_that_another_one_refuses_changes_nothing(locked: Path) -> None:
    before = {path: path.read_bytes() for path in locked.rglob("*") if path.is_file()}
    assert main(["train", str(locked / "config.yaml"), f"run={locked}", "train.epochs=99"]) == 2
    assert {path: path.read_bytes() for path in locked.rglob("*") if path.is_file()} == before


def test_a_start_that_was_killed_is_made_again(shards: Path, tmp_path: Path, dead: int) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_lock(run, process=dead)
    write_lock(run, name=f"{NAME}-t", token="u", process=dead)
    assert train_run(parse_config(small_settings(shards, run, train__max_steps=1))).finished
    assert not list(run.glob(f"{NAME}*"))


def test_training_that_was_passed_over_ends_before_it_writes(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, take = tmp_path / "run", Stepper.take

    def stopped_for_long(self: Stepper, batch: Any, *by: Any) -> Any:
        if batch.step == 3:
            write_lock(run, **ELSEWHERE)
        return take(self, batch, *by)

    monkeypatch.setattr(Stepper, "take", stopped_for_long)
    with pytest.raises(LockLost, match="it ends, and writes no more"):
        train_run(parse_config(small_settings(shards, run, train__save_every=2)))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert "step-00000004" not in os.listdir(run / "checkpoints")
    assert json.loads((run / NAME).read_text().splitlines()[0])["host"] == "node7"


def test_a_save_that_was_passed_over_is_not_completed(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def write_slowly(folder: Path, rank: int, snapshot: Any) -> None:
        write_files(folder, rank, snapshot)
        write_lock(run, **ELSEWHERE)

    monkeypatch.setattr(saver, "write_files", write_slowly)
    with pytest.raises(LockLost):
        train_run(parse_config(small_settings(shards, run, train__save_every=2, train__log_every=1000)))
    assert os.listdir(run / "checkpoints") == [".staging"]  # of which another start knows that it was cut off
