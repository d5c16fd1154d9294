"""The tool that kills, and a real conversion under it."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_images
from kill_often import digests
from kills import Kill, kill_often, wait_for_end

TOOL = Path(__file__).parents[1] / "tools" / "kill_often.py"

# Runs until a file is there.
PROGRAM = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""


def test_kills_as_often_as_asked_and_then_lets_it_end(tmp_path):
    end = tmp_path / "end"
    lives = iter([0.5, 0.1, 0.3])
    said: list[object] = []

    def told(kill: Kill) -> None:
        said.append(kill)
        if len(said) == 3:
            end.touch()

    kills = kill_often(
        [sys.executable, "-c", PROGRAM, str(end)],
        3,
        random.Random(1),
        lambda: next(lives),
        lambda: {"said": len(said)},
        finished=lambda: said.append("finished"),
        restart=lambda: said.append("restart"),
        told=told,
    )
    assert said == [*kills, "finished"]
    assert [kill.round for kill in kills] == [0, 0, 0]
    assert [kill.state for kill in kills] == [{"said": 0}, {"said": 1}, {"said": 2}]
    assert {kill.target for kill in kills} == {"group", "parent"}
    assert all(kill.life >= life for life, kill in zip([0.5, 0.1, 0.3], kills, strict=True))


def test_a_command_that_ends_before_its_kill_is_begun_anew(tmp_path):
    end = tmp_path / "end"
    said: list[str] = []

    def draw_life() -> float:
        said.append("life")
        if len(said) == 3:  # the second start comes to its end
            end.touch()
            return 100
        return 0.2

    kills = kill_often(
        [sys.executable, "-c", PROGRAM, str(end)],
        2,
        random.Random(0),
        draw_life,
        dict,
        finished=lambda: said.append("finished"),
        restart=lambda: said.append("restart") or end.unlink(),
        told=lambda kill: said.append("kill") or (end.touch() if kill.round else None),
    )
    assert [kill.round for kill in kills] == [0, 1]
    assert said == ["life", "kill", "life", "finished", "restart", "life", "kill", "finished"]


def test_a_command_that_fails(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('it is broken')"]
    with pytest.raises(RuntimeError, match="ended with code 1: it is broken"):
        kill_often(command, 1, random.Random(0), lambda: 60, dict, lambda: None, lambda: None)


def test_orphans_are_found(monkeypatch):
    monkeypatch.setattr("kills.ORPHAN_SECONDS", 0.2)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        with pytest.raises(RuntimeError, match=f"groups \\[{process.pid}\\] outlive their parents"):
            wait_for_end([process.pid])
    finally:
        process.kill()
        process.wait()
    start = time.monotonic()
    wait_for_end([process.pid])
    assert time.monotonic() - start < 5


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_killed_conversion_ends_with_the_same_bytes(tmp_path):
    images = make_images(tmp_path / "images", 240, size=(160, 120))
    (images / "class0/broken.jpg").write_bytes(b"no image")
    (images / "class1/again.jpg").write_bytes((images / "class0/0000.jpg").read_bytes())
    options = ["--format", "webp", "--shard-samples", "20", "--dedup", "--workers", "2"]
    options += ["--kills", "3", "--seed", "1", "--json"]
    done = subprocess.run(
        [sys.executable, str(TOOL), "conversion", "folder", str(images), *options],
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["kills"]) == 3
    assert result["rounds"] >= 1
    assert result["different"] == [[]] * result["rounds"]
    # 13 shards and their indexes, the manifest, two lists.
    assert result["facts"] == 2 * 13 + 3
    assert {*result["kills"][0]} == {"round", "life", "target", "state"}


def test_digests_tell_what_differs(tmp_path):
    (tmp_path / "a/.hidden").mkdir(parents=True)
    (tmp_path / "a/.hidden/x").write_bytes(b"1")
    (tmp_path / "a/y").write_bytes(b"2")
    first = digests(tmp_path / "a")
    assert sorted(first) == [".hidden/x", "y"]
    (tmp_path / "a/y").write_bytes(b"3")
    second = digests(tmp_path / "a")
    assert {name for name in first if first[name] != second[name]} == {"y"}
