"""A rank that is gone, hangs or fails ends all others in bounded time, by name; what is saved goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as torch_dist
from conftest import small_settings
from same_run import steps
from test_launchers import free_port

from ccscale.train.heartbeat import is_broken_connection

LIMIT = 6.0
GOOD = ["-m", "ccscale"]
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


@pytest.fixture
def ranks(
    request: pytest.FixtureRequest, shards: Path, tmp_path: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """Ranks that train, as many as the parameter says, and go on until they are stopped."""
    world, last = request.param
    settings = small_settings(shards, tmp_path / "run", train__epochs=10_000, train__rank_timeout=LIMIT)
    settings["train"] |= {"global_batch": 24, "save_every": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    starts = [GOOD] * (world - 1) + [last]
    tasks = [
        subprocess.Popen(
            [sys.executable, *start, "train", str(path)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, start in enumerate(starts)
    ]
    yield tasks
    for task in tasks:
        task.kill()
        task.communicate()


def wait_for_steps(folder: Path, tasks: list[subprocess.Popen[str]]) -> None:
    while len(steps(folder / "run")) < 3:
        assert tasks[0].poll() is None
        time.sleep(0.05)


def check_end(tasks: list[subprocess.Popen[str]], code: int) -> str:
    """Wait for ranks to end with a code, in bounded time; return what they said."""
    begun = time.monotonic()
    said = [task.communicate(timeout=6 * LIMIT)[1] for task in tasks]
    assert time.monotonic() - begun < 5 * LIMIT
    assert [task.returncode for task in tasks] == [code] * len(tasks), said
    return "".join(said)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("ranks", [(2, GOOD)], indirect=True)
def test_a_killed_rank(ranks: list[subprocess.Popen[str]], tmp_path: Path, lost: int) -> None:
    wait_for_steps(tmp_path, ranks)
    ranks[lost].kill()
    said = check_end([task for task in ranks if task is not ranks[lost]], code=76)
    if lost:
        assert f"rank {lost} on {os.uname().nodename} is lost: no sign of life for" in said
    else:  # the store was in it
        assert "rank 0, or the way to it, is gone" in said
    assert "the same command goes on from the newest checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(3, GOOD)], indirect=True)
def test_a_rank_that_hangs(ranks: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """No connection breaks, nothing is heard: as behind a network that was cut."""
    wait_for_steps(tmp_path, ranks)
    ranks[1].send_signal(signal.SIGSTOP)
    said = check_end([ranks[0], ranks[2]], code=76)
    assert f"error: rank 1 on {os.uname().nodename} is lost: no sign of life for" in said
    assert said.count("error") == 1


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(2, ["-c", FAILING])], indirect=True)
def test_a_failing_rank(ranks: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    wait_for_steps(tmp_path, ranks)
    said = check_end(ranks[:1], code=76)
    assert f"rank 1 on {os.uname().nodename} has failed: MemoryError: no more of it" in said
    assert "MemoryError: no more of it" in check_end(ranks[1:], code=1)


def test_what_a_broken_connection_looks_like() -> None:
    assert is_broken_connection(torch_dist.DistBackendError("NCCL error in: ..."))
    assert is_broken_connection(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"))
    assert not is_broken_connection(RuntimeError("CUDA out of memory"))
    assert not is_broken_connection(ValueError("gloo"))
