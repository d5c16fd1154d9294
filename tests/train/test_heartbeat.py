"""A rank that is gone, hangs or fails ends all others in bounded time, by name; what is saved goes on."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch.distributed as torch_dist
from conftest import small_settings
from lives import Process, fork, free_port, spawn
from same_run import steps

from ccscale.train.heartbeat import is_broken_connection

LIMIT = 6.0
# Raises in the fourth step, alone: the others are in the middle of a collective call.
FAILING = """
import sys
from ccscale.train.step import Stepper
take, calls = Stepper.take, []
def fail(self, *arguments):
    calls.append(1)
    if len(calls) == 4:
        raise MemoryError("no more of it")
    return take(self, *arguments)
Stepper.take = fail
from ccscale.cli import entry
entry()
"""


@dataclass(frozen=True)
class Rank:
    """A process of its own, and what it has said."""

    process: Process
    said: Path

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def ranks(request: pytest.FixtureRequest, shards: Path, tmp_path: Path) -> Iterator[list[Rank]]:
    """Ranks that train, as many as the parameter says, and go on until they are stopped; the last one may fail."""
    world, fails = request.param
    settings = small_settings(shards, tmp_path / "run", train__epochs=10_000, train__rank_timeout=LIMIT)
    settings["train"] |= {"global_batch": 24, "save_every": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    good, bad = fork(["train", str(path)]), spawn([sys.executable, "-c", FAILING, "train", str(path)])
    found = []
    for rank in range(world):
        start, said = bad if fails and rank == world - 1 else good, tmp_path / f"{rank}.err"
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
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("ranks", [(2, False)], indirect=True)
def test_a_killed_rank(ranks: list[Rank], tmp_path: Path, lost: int) -> None:
    wait_for_steps(tmp_path, ranks)
    ranks[lost].signal(signal.SIGKILL)
    said = check_end([rank for rank in ranks if rank is not ranks[lost]], code=76)
    if lost:
        assert f"rank {lost} on {os.uname().nodename} is lost: no sign of life for" in said
    else:  # the store was in it
        assert "rank 0, or the way to it, is gone" in said
    assert "the same command goes on from the newest checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(3, False)], indirect=True)
def test_a_rank_that_hangs(ranks: list[Rank], tmp_path: Path) -> None:
    """No connection breaks, nothing is heard: as behind a network that was cut."""
    wait_for_steps(tmp_path, ranks)
    ranks[1].signal(signal.SIGSTOP)
    said = check_end([ranks[0], ranks[2]], code=76)
    assert f"error: rank 1 on {os.uname().nodename} is lost: no sign of life for" in said
    assert said.count("error") == 1


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(2, True)], indirect=True)
def test_a_failing_rank(ranks: list[Rank], tmp_path: Path) -> None:
    wait_for_steps(tmp_path, ranks)
    said = check_end(ranks[:1], code=76)
    assert f"rank 1 on {os.uname().nodename} has failed: MemoryError: no more of it" in said
    assert "MemoryError: no more of it" in check_end(ranks[1:], code=1)


def test_what_a_broken_connection_looks_like() -> None:
    assert is_broken_connection(torch_dist.DistBackendError("NCCL error in: ..."))
    assert is_broken_connection(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"))
    assert not is_broken_connection(RuntimeError("CUDA out of memory"))
    assert not is_broken_connection(ValueError("gloo"))
