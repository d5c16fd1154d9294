"""A rank that is gone, hangs or fails ends all others in bounded time, by name; what is saved goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as torch_dist
from conftest import small_settings
from lives import Process, fork, free_port
from runs import steps

from ccscale.errors import Fault
from ccscale.train.heartbeat import Clock, heartbeat, is_broken_connection
from ccscale.train.log import RunLog
from ccscale.train.step import Stepper

LIMIT = 6.0


def go_wrong(what: str) -> None:
    """Hang or fail in the fourth step, alone: the others are in the middle of a collective call."""
    take, calls = Stepper.take, []

    def fail(self: Stepper, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            if what == "hangs":
                time.sleep(600)
            raise MemoryError("no more of it")
        return take(self, *arguments)

    Stepper.take = fail  # type: ignore[method-assign]
    RunLog.__exit__ = lambda *_: time.sleep(1)  # type: ignore[method-assign, assignment] # what is tidied up waits


@dataclass(frozen=True)
class Rank:
    """A process of its own, and what it has said."""

    process: Process
    said: Path

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def ranks(request: pytest.FixtureRequest, shards: Path, tmp_path: Path) -> Iterator[list[Rank]]:
    """As many ranks as the parameter says, training until they are stopped; it may say what goes wrong on one."""
    world, wrong, what = request.param
    settings = small_settings(shards, tmp_path / "run", train__epochs=10_000, train__rank_timeout=LIMIT)
    settings["train"] |= {"global_batch": 24, "save_every": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    good, bad = (fork(["train", str(path)], before) for before in (None, partial(go_wrong, what)))
    found = []
    for rank in range(world):
        start, said = bad if rank == wrong else good, tmp_path / f"{rank}.err"
        found.append(Rank(start(common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, said), said))
    yield found
    for rank in found:
        if rank.process.poll() is None:
            rank.signal(signal.SIGKILL)


def wait_for_steps(folder: Path, ranks: list[Rank]) -> None:
    while len(steps(folder / "run")) < 3:
        assert ranks[0].process.poll() is None
        time.sleep(0.05)


def check_end(ranks: list[Rank], code: int) -> str:
    """Wait for ranks to end with a code, in bounded time; return what they said."""
    end = time.monotonic() + 5 * LIMIT
    while None in [rank.process.poll() for rank in ranks]:
        assert time.monotonic() < end
        time.sleep(0.05)
    said = "".join(rank.said.read_text() for rank in ranks)
    assert [rank.process.poll() for rank in ranks] == [code] * len(ranks), said
    return said


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(("lost", "number"), [(0, signal.SIGKILL), (1, signal.SIGABRT)])
@pytest.mark.parametrize("ranks", [(2, None, "")], indirect=True)
def test_a_killed_rank(ranks: list[Rank], tmp_path: Path, lost: int, number: int) -> None:
    wait_for_steps(tmp_path, ranks)
    ranks[lost].signal(number)
    said = check_end([rank for rank in ranks if rank is not ranks[lost]], code=76)
    if lost:
        assert f"rank {lost} on {os.uname().nodename} is lost: no sign of life for" in said
    else:  # the store was in it
        assert "rank 0, or the way to it, is gone" in said
    assert "the same command resumes from the newest checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
@pytest.mark.parametrize("ranks", [(2, None, "")], indirect=True)
def test_a_rank_that_is_not_heard(ranks: list[Rank], tmp_path: Path, stopped: int) -> None:
    """No connection breaks, nothing is heard: as behind a network that was cut."""
    wait_for_steps(tmp_path, ranks)
    ranks[stopped].signal(signal.SIGSTOP)
    said = check_end([rank for rank in ranks if rank is not ranks[stopped]], code=76)
    if stopped:
        assert f"error: rank 1 on {os.uname().nodename} is lost: no sign of life for" in said
    else:
        assert f"error on rank 1: rank 0, or the way to it, is gone for {LIMIT:.0f} s" in said
    assert said.count("error") == 1


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "hanging"),
    [((2, rank, "hangs"), rank) for rank in (0, 1)],
    indirect=["ranks"],
)
def test_a_rank_that_hangs(ranks: list[Rank], tmp_path: Path, hanging: int) -> None:
    """Its thread gives signs of life; the main threads of the others wait for its own."""
    wait_for_steps(tmp_path, ranks)
    said = check_end(ranks, code=76)
    assert f"error: rank {hanging} on {os.uname().nodename} hangs: it has stood for " in said
    place = re.escape("step 4, views (") + r"\S*test_heartbeat\.py:\d+, fail\)"
    assert re.search(
        f" s at {place}, and others wait for it; all ranks exit: the same command resumes from", said
    )
    assert said.count("error") == 1


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "failing"),
    [((3, rank, "fails"), rank) for rank in (0, 1)],
    indirect=["ranks"],
)
def test_a_failing_rank(ranks: list[Rank], tmp_path: Path, failing: int) -> None:
    """It would fail again: no rank ends with a code by which a scheduler starts the job anew."""
    wait_for_steps(tmp_path, ranks)
    check_end(ranks, code=1)
    said = [rank.said.read_text() for rank in ranks]
    assert "MemoryError: no more of it" in said[failing]
    told = f"rank 1 on {os.uname().nodename} has failed: MemoryError: no more of it; all ranks exit"
    assert (told in said[0]) == (failing == 1)  # it speaks of others alone
    assert all("Traceback" not in text for rank, text in enumerate(said) if rank != failing)


def test_what_a_broken_connection_looks_like() -> None:
    assert is_broken_connection(torch_dist.DistBackendError("NCCL error in: ..."))
    assert is_broken_connection(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"))
    assert not is_broken_connection(RuntimeError("CUDA out of memory"))
    assert not is_broken_connection(ValueError("gloo"))


def test_a_rank_that_has_failed_tidies_up_for_so_long_and_no_longer(tmp_path: Path) -> None:
    """It may wait for what only the others could do, as a GPU does for a call that they do not make."""
    program = tmp_path / "program.py"
    program.write_text(HANGING)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "tidying\n")
    assert done.stderr == "error on rank 1: ValueError: its own\n"


HANGING = """
import time
import torch.distributed as torch_dist
from ccscale.train import heartbeat
from ccscale.process_group import process_group

heartbeat.TIDY_SECONDS = 0.2
store = torch_dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
store.set("heartbeat/beat/0", "done")
with heartbeat.heartbeat(store, 1, 2, 60.0) as beat:
    try:
        with beat.telling():
            raise ValueError("its own")
    finally:
        print("tidying", flush=True)
        time.sleep(600)
"""


def test_what_all_ranks_raise_is_told_to_none() -> None:
    store = torch_dist.HashStore()
    error = Fault("of all").told_by(0)
    with pytest.raises(Fault), heartbeat(store, 1, 2, 60.0):
        raise error
    assert not store.check(["heartbeat/failed"])
    store.set("heartbeat/beat/0", "done")
    with pytest.raises(Fault), heartbeat(store, 1, 2, 60.0):
        raise Fault("of one alone\nand more")
    told = store.get("heartbeat/failed").decode()
    assert told == f"rank 1 on {os.uname().nodename} has failed: of one alone"


def test_the_clock_does_not_count_what_all_were_stopped_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 500.0, 501.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    clock = Clock(2.0)
    assert [clock.read() for _ in range(3)] == [1.0, 3.0, 4.0]
