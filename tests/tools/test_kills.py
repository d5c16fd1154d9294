"""The tool that kills, and a real conversion and real runs under it."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kill_often as tool
import kills
import pytest
from conftest import make_images, small_settings
from kills import Kill, Moment, kill_often, wait_for_end
from lives import Life, is_alive, spawn
from trials import compare, digests
from under_way import UnderWay

# Runs until a file is there.
PROGRAM = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""

# The same; rank 0 ends when rank 1 does, if `sys.argv[2]` says so.
RANKS = """
import os, pathlib, sys, time
pathlib.Path(f"{sys.argv[1]}.{os.environ['RANK']}").write_text(str(os.getpid()))
if os.environ["RANK"] == "0":
    while not pathlib.Path(f"{sys.argv[1]}.1").exists():
        time.sleep(0.02)
    other = int(pathlib.Path(f"{sys.argv[1]}.1").read_text() or 0)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
    if os.environ["RANK"] == "0" and sys.argv[2] == "ends":
        try:
            state = pathlib.Path(f"/proc/{other}/stat").read_text().split()[2]
        except OSError:  # its parent has looked after it already
            state = "Z"
        if state == "Z":
            sys.exit("rank 1 is gone")
"""


def until_there(end: Path) -> Life:
    return Life(spawn([sys.executable, "-c", PROGRAM, str(end)]))


def test_kills_as_often_as_asked_and_then_lets_it_end(tmp_path):
    end = tmp_path / "end"
    lives = iter([0.5, 0.1, 0.3])
    said: list[object] = []

    def told(kill: Kill) -> None:
        said.append(kill)
        if len(said) == 3:
            end.touch()

    kills = kill_often(
        lambda: until_there(end),
        3,
        random.Random(4),
        lambda: Moment(next(lives)),
        lambda: {"said": len(said)},
        finished=lambda: said.append("finished"),
        restart=lambda: said.append("restart"),
        told=told,
    )
    assert said == [*kills, "finished"]
    assert [kill.round for kill in kills] == [0, 0, 0]
    assert [kill.state for kill in kills] == [{"said": 0}, {"said": 1}, {"said": 2}]
    assert {(kill.target, kill.survivors) for kill in kills} == {("all", ""), ("parent", "")}
    assert all(kill.life >= life for life, kill in zip([0.5, 0.1, 0.3], kills, strict=True))


def test_a_command_that_ends_before_its_kill_is_begun_anew(tmp_path):
    end = tmp_path / "end"
    said: list[str] = []

    def draw() -> Moment:
        said.append("life")
        if len(said) == 3:  # the second start comes to its end
            end.touch()
            return Moment(100)
        return Moment(0.2)

    kills = kill_often(
        lambda: until_there(end),
        2,
        random.Random(0),
        draw,
        dict,
        finished=lambda: said.append("finished"),
        restart=lambda: said.append("restart") or end.unlink(),
        told=lambda kill: said.append("kill") or (end.touch() if kill.round else None),
    )
    assert [kill.round for kill in kills] == [0, 1]
    assert said == ["life", "kill", "life", "finished", "restart", "life", "kill", "finished"]


def test_a_kill_waits_for_what_is_to_be_seen_not_before_its_time(tmp_path):
    seen = tmp_path / "seen"
    begin, asked = time.monotonic(), []

    def sees() -> bool:
        asked.append(time.monotonic() - begin)
        if len(asked) == 5:
            seen.touch()
        return seen.exists()

    (kill,) = kill_often(
        lambda: until_there(tmp_path / "end"),
        1,
        random.Random(0),
        lambda: Moment(0.3, "sight", sees, 0.2),
        lambda: {"seen": seen.exists()},
        finished=lambda: None,
        restart=lambda: None,
        told=lambda kill: (tmp_path / "end").touch(),
    )
    assert (kill.event, kill.state) == ("sight", {"seen": True})
    assert asked[0] >= 0.3
    assert len(asked) == 5
    assert kill.life >= 0.5


@pytest.mark.parametrize("how", ["ends", "hangs"])
def test_one_rank_of_two_is_killed_and_the_other_ends_or_is_ended(tmp_path, monkeypatch, how):
    monkeypatch.setattr(kills, "SURVIVOR_SECONDS", 5.0 if how == "ends" else 0.3)
    monkeypatch.setattr(kills, "_kill_some", lambda life, rng: life.kill_process(1) or "rank 1")
    end = tmp_path / "end"
    lives = []

    def start() -> Life:
        lives.append(Life(spawn([sys.executable, "-c", RANKS, str(end), how]), 2))
        return lives[-1]

    (kill,) = kill_often(
        start,
        1,
        random.Random(0),
        lambda: Moment(0, "both", lambda: all(Path(f"{end}.{rank}").exists() for rank in (0, 1)), 0.3),
        lambda: {"others": lives[0].code()},
        finished=lambda: None,
        restart=lambda: None,
        told=lambda kill: end.touch(),
    )
    assert (kill.ranks, kill.target) == (2, "rank 1")
    assert kill.survivors.startswith("ended" if how == "ends" else "killed after 0.3 s")
    assert ("rank 1 is gone" in lives[0].said()) == (how == "ends")
    assert not any(is_alive(group) for life in lives for group in life.groups)


def test_each_rank_gets_its_place(tmp_path):
    program = "import os, sys; print(*(os.environ[name] for name in sys.argv[1:]), file=sys.stderr)"
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
    life = Life(spawn([sys.executable, "-c", program, *names]), 3)
    assert sorted(life.finish(60).splitlines()) == [f"{rank} {rank} 3 3 127.0.0.1" for rank in range(3)]
    assert life.code() == 0


def test_a_command_that_fails():
    command = spawn([sys.executable, "-c", "import sys; sys.exit('it is broken')"])
    with pytest.raises(RuntimeError, match="ended with code 1: it is broken"):
        kill_often(
            lambda: Life(command), 1, random.Random(0), lambda: Moment(60), dict, lambda: None, lambda: None
        )


def test_a_command_that_does_not_end(tmp_path):
    life = until_there(tmp_path / "never")
    with pytest.raises(RuntimeError, match="did not end within 0 s"):
        life.finish(0.2)
    assert not is_alive(life.groups[0])


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


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Run the command line, which must find nothing different; return what it found."""

    def call(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [tool.__file__, *arguments, "--json"])
        code = tool.main()
        result = json.loads(capsys.readouterr().out)
        assert code == 0, result["different"]
        return result

    return call


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_killed_conversion_ends_with_the_same_bytes(run_tool, tmp_path):
    images = make_images(tmp_path / "images", 240, size=(160, 120))
    (images / "class0/broken.jpg").write_bytes(b"no image")
    (images / "class1/again.jpg").write_bytes((images / "class0/0000.jpg").read_bytes())
    options = ["--format", "webp", "--shard-samples", "20", "--dedup", "--workers", "2"]
    result = run_tool("conversion", "folder", str(images), *options, "--kills", "3", "--seed", "1")
    assert len(result["kills"]) == 3
    assert result["rounds"] >= 1
    assert result["different"] == [[]] * result["rounds"]
    # 13 shards and their indexes, the manifest, two lists.
    assert result["facts"] == 2 * 13 + 3
    assert {*result["kills"][0]} == {"round", "ranks", "life", "event", "target", "survivors", "state"}


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--ranks", "2", "--kills", "4", "--seed", "151"], ["train.zero=1"]),
        (
            ["--ranks", "2", "--also", "1", "--tolerance", "1e-8", "--kills", "3", "--seed", "7359"],
            ["train.zero=1", "train.precision=fp64"],
        ),
    ],
    ids=["bit for bit", "and one rank"],
)
def test_killed_ranks_end_with_the_same_weights(run_tool, shards, tmp_path, options, settings):
    config = small_settings(shards, tmp_path / "unused", train__max_steps=12, train__save_every=3)
    config["evaluate"] = {"every": 1}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    log = tmp_path / "log"
    command = ["training", str(tmp_path / "config.yaml"), *settings, *options]
    result = run_tool(*command, "--fork", "--log", str(log))
    seed, found = int(options[-1]), result["kills"]
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"seed": seed, **kill} for kill in found
    ]
    assert len(found) == int(options[-3])
    assert result["different"] == [[]] * result["rounds"]
    assert result["facts"] == 12 + 2 + 1  # steps, evaluations (of an epoch's 9 steps, and the end), weights
    assert {kill["ranks"] for kill in found} == {*result["ranks"]}
    for kill in found:
        assert kill["survivors"].startswith("ended") if kill["target"].startswith("rank") else True
    assert sum(result["at"].values()) == len(found)


def test_digests_tell_what_differs(tmp_path):
    (tmp_path / "a/.hidden").mkdir(parents=True)
    (tmp_path / "a/.hidden/x").write_bytes(b"1")
    (tmp_path / "a/y").write_bytes(b"2")
    first = digests(tmp_path / "a")
    assert sorted(first) == [".hidden/x", "y"]
    (tmp_path / "a/y").write_bytes(b"3")
    second = digests(tmp_path / "a")
    assert {name for name in first if first[name] != second[name]} == {"y"}


def line(kind: str, step: int, when: float) -> str:
    return json.dumps({"kind": kind, "step": step, "time": when}) + "\n"


def test_what_is_under_way_is_seen(tmp_path):
    (tmp_path / "checkpoints/.staging/step-00000003").mkdir(parents=True)  # left by a life before
    (tmp_path / "metrics.jsonl").write_text(line("step", 1, time.time() - 5))
    time.sleep(0.05)
    watch = UnderWay(tmp_path, {3, 6})
    time.sleep(0.05)  # the clock of files runs in steps
    assert watch.now() == "start"
    universal = tmp_path / "checkpoints/universal/.staging/step-00000003"
    universal.mkdir(parents=True)
    assert watch.now() == "conversion"
    universal.rmdir()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        for step, kind, what in [
            (2, "step", "step"),
            (3, "step", "evaluation"),
            (3, "evaluation", "step"),
            (6, "evaluation", "end"),
        ]:
            file.write(line(kind, step, time.time() + 1))
            file.flush()
            assert watch.now() == what
            assert watch.steps() == step - 1
        file.write('{"kind": "st')
        file.flush()
        assert watch.now() == "end"
    staging = tmp_path / "checkpoints/.staging"
    (staging / "step-00000006").mkdir()
    assert watch.now() == "staging"
    (staging / "step-00000006/COMMIT.json").touch()
    assert watch.now() == "rename"
    os.rename(staging / "step-00000006", tmp_path / "checkpoints/step-00000006")
    assert watch.now() == "end"
    (staging / "deleted-step-00000003").mkdir()
    assert watch.now() == "deletion"


def facts(**changes: Any) -> dict[str, Any]:
    step = {"batch_digest": "0a", "loss": 2.0, "instance_loss": 1.0, "cluster_loss": 1.0}
    return {"step 1": step | changes, "weights": "f00"}


def test_facts_are_held_to_bits_or_to_a_tolerance():
    assert compare(facts(), facts(), 0.0) == ([], 0.0)
    assert compare(facts(), facts(loss=2.0 + 2e-6), 0.0) == (["step 1"], pytest.approx(1e-6))
    assert compare(facts(), facts(loss=2.0 + 2e-6), 1e-5) == ([], pytest.approx(1e-6))
    assert compare(facts(), facts(loss=2.0 + 2e-4), 1e-5)[0] == ["step 1"]
    assert compare(facts(), facts(loss=float("nan")), 1e-5)[0] == ["step 1"]
    assert compare(facts(), facts(batch_digest="0b"), 1e-5)[0] == ["step 1"]
    assert compare(facts(), facts() | {"weights": "f01"}, 0.0)[0] == ["weights"]
    assert compare(facts(), facts() | {"weights": "f01"}, 1e-5)[0] == []
    assert compare(facts(), {"step 1": facts()["step 1"]}, 1e-5)[0] == ["weights"]
