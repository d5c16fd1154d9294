"""What starts and kills the ranks of the tests and tools, and the guard that watches readers."""

import os
import socket
import subprocess
import sys

import pytest
from guard import Forbidden, Guard
from lives import Life, is_alive, spawn


def test_each_rank_gets_its_place():
    program = "import os, sys; print(*(os.environ[name] for name in sys.argv[1:]), file=sys.stderr)"
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
    life = Life(spawn([sys.executable, "-c", program, *names]), 3)
    assert sorted(life.finish(60).splitlines()) == [f"{rank} {rank} 3 3 127.0.0.1" for rank in range(3)]
    assert life.code() == 0


def test_a_command_that_fails():
    with pytest.raises(RuntimeError, match="ended with code 1: it is broken"):
        Life(spawn([sys.executable, "-c", "import sys; sys.exit('it is broken')"])).finish(60)


def test_a_command_that_does_not_end():
    life = Life(spawn([sys.executable, "-c", "import time; time.sleep(600)"]))
    with pytest.raises(RuntimeError, match="did not end within 0 s"):
        life.finish(0.2)
    assert not is_alive(life.groups[0])


def connect():
    with socket.socket() as end:
        end.connect(("127.0.0.1", 9))


HARM = {
    "write": lambda folder: (folder / "x").write_text("x"),
    "append": lambda folder: open(folder / "old", "a").close(),
    "os.open": lambda folder: os.open(folder / "x", os.O_WRONLY | os.O_CREAT),
    "remove": lambda folder: (folder / "old").unlink(),
    "rename": lambda folder: (folder / "old").rename(folder / "x"),
    "mkdir": lambda folder: (folder / "x").mkdir(),
    "link": lambda folder: (folder / "x").symlink_to("old"),
    "process": lambda folder: subprocess.run(["touch", folder / "x"], check=True),
    "shell": lambda folder: os.system(f"touch {folder / 'x'}"),
    "connect": lambda folder: connect(),
}


@pytest.fixture(scope="module")
def guard() -> Guard:
    made = Guard()
    made.armed = True
    return made


@pytest.mark.parametrize("name", HARM)
def test_what_reading_has_no_business_with_is_stopped(name, guard, tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(Forbidden), guard.watching():
        HARM[name](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    with guard.watching():
        assert (tmp_path / "old").read_text() == "old"
