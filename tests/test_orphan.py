"""A process whose launcher is gone tells itself to stop; what no launcher has started may outlive its parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccscale.orphan import DEEPSPEED, SUPERVISOR, TORCHRUN, launchers

# Begins the next process of a chain, says so, and stays until its input ends; the last one waits for a signal.
CHAIN = """
import os, subprocess, sys, time
from ccscale.orphan import stop_when_orphaned
count, folder = int(sys.argv[1]), sys.argv[2]
if count:
    child = subprocess.Popen([sys.executable, "-c", os.environ["CHAIN"], str(count - 1), folder])
    sys.stdin.read() if count == int(os.environ["LENGTH"]) else child.wait()
    os._exit(0)
late = "LATE" in os.environ
late or stop_when_orphaned()
open(folder + "/ready", "w").close()
if late:
    while not os.path.exists(folder + "/gone"):
        time.sleep(0.02)
    stop_when_orphaned()
for _ in range(2 if os.environ.get("STAYS") else 600):
    time.sleep(1)
open(folder + "/stays", "w").close()
"""


def ends_with_the_first(length: int, folder: Path, **environment: str) -> bool:
    """Start a chain of processes of which the last watches, end the first; tell whether the last ends then."""
    environment = {"CHAIN": CHAIN, "LENGTH": str(length)} | environment
    if environment.get("STAYS"):
        environment.pop(TORCHRUN, None)
    reading, writing = os.pipe()  # its last writer is the last process of the chain
    first = subprocess.Popen(
        [sys.executable, "-c", CHAIN, str(length), str(folder)],
        stdin=subprocess.PIPE,
        stdout=writing,
        env=os.environ | environment,
    )
    os.close(writing)
    while not (folder / "ready").exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.communicate()
    (folder / "gone").touch()
    with open(reading, "rb") as pipe:
        pipe.read()
    return not (folder / "stays").exists()


@pytest.mark.parametrize(("name", "length"), [(TORCHRUN, 1), (DEEPSPEED, 1), (DEEPSPEED, 2)])
def test_it_stops_when_a_launcher_is_gone(tmp_path, name, length):
    assert ends_with_the_first(length, tmp_path, **{name: "1"})


@pytest.mark.parametrize(("name", "length"), [(TORCHRUN, 1), (DEEPSPEED, 1), (DEEPSPEED, 2)])
def test_it_stops_when_a_launcher_was_gone_before_it_looked(tmp_path, name, length):
    assert ends_with_the_first(length, tmp_path, LATE="1", **{name: "1"})


@pytest.mark.parametrize("length", [1, 2])
def test_what_a_shell_has_started_may_outlive_it(tmp_path, length):
    assert not ends_with_the_first(length, tmp_path, STAYS="1")


def test_a_supervisor_that_was_gone_before_is_missed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    code = "import time; from ccscale.orphan import stop_when_orphaned as s; s(); time.sleep(600)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {SUPERVISOR: str(gone.pid)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == -15
    assert ended.stderr == "the launcher of this process is gone: stopping, as on SIGTERM\n"


def test_only_launchers_count():
    assert launchers({}) == launchers({"RANK": "0", "WORLD_SIZE": "2", "SLURM_JOB_ID": "1"}) == []
    assert launchers({TORCHRUN: "none"}) == [os.getppid()]
    assert launchers({SUPERVISOR: "17", TORCHRUN: "none"}) == [17]
    assert launchers({DEEPSPEED: "1"})[0] == os.getppid()
    assert len(launchers({DEEPSPEED: "1"})) == 2
