"""Tasks in processes: results in order, units counted, and no process that outlives its purpose."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccscale import pool
from ccscale.errors import Fault, InputError
from ccscale.progress import Meter


class Counted(Meter):
    """A meter that shows nothing."""

    def __init__(self, done: int = 0) -> None:
        super().__init__("testing", 100, "units", show=False, done=done)

    @property
    def done(self) -> int:
        return self._done


def square(task: int, tick: pool.Tick) -> int:
    tick()
    tick(task)
    return task * task


def die(task: int, tick: pool.Tick) -> None:
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(task: int, tick: pool.Tick) -> None:
    if task == 1:
        raise OSError(28, "No space left on device")
    while True:  # until the other's failure ends it
        tick()
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_order_and_units_on_top_of_earlier_ones(workers):
    meter = Counted(done=7)
    assert pool.run(square, [3, 1, 2], meter, workers) == [9, 1, 4]
    assert meter.done == 7 + 3 + 6


def test_nothing_to_do():
    assert pool.run(square, [], Counted()) == []


def test_the_first_error_stops_the_others():
    with pytest.raises(OSError, match="No space left"):
        pool.run(fail, [0, 1], Counted(), 2)


def test_a_worker_that_is_killed():
    with pytest.raises(Fault, match="a worker process was killed, perhaps out of memory"):
        pool.run(die, [1, 2, 3], Counted(), 2)


def test_workers_must_be_positive():
    with pytest.raises(InputError, match="workers is 0"):
        pool.run(square, [1], Counted(), 0)


PROGRAM = """
import fcntl, os, sys, time
from ccscale import pool
from ccscale.progress import Meter

def task(folder, tick):
    with open(f"{folder}/{os.getpid()}.pid", "w"):
        pass
    time.sleep(60)

if __name__ == "__main__":
    lock = os.open(f"{sys.argv[1]}/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    pool.run(task, [sys.argv[1]] * 2, Meter("", 1, "", False), 2, lock)
"""


def is_locked(path: Path) -> bool:
    with open(path, "rb+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_stopped(process: int) -> bool:
    """Say whether all of its threads stand still: a signal to stop reaches one of them first."""
    states = [
        stat.read_text().rpartition(")")[2].split()[0]
        for stat in Path(f"/proc/{process}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


def wait_until(condition) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_workers_of_a_killed_process_end_and_hold_its_lock_until_then(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", tmp_path])
    workers = []
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        os.kill(workers[0], signal.SIGSTOP)  # one that cannot notice at once
        assert wait_until(lambda: is_stopped(workers[0]))
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not Path(f"/proc/{workers[1]}").exists())
        assert is_locked(tmp_path / "lock")
        os.kill(workers[0], signal.SIGCONT)
        assert wait_until(lambda: not is_locked(tmp_path / "lock"))
    finally:
        parent.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
