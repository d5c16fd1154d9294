"""Processes that embed are killed as a power cut does it, one rank or all, and others go on."""

import random
import shutil
import time
from pathlib import Path

import pytest
from harness.pictures import contents
from harness.stores import small_blocks
from lives import Life, fork

OPTIONS = [
    *("--backbone", "test_resnet", "--weights", "random", "--size", "16", "--views", "1"),
    *("--neighbours", "5", "--workers", "0", "--device", "cpu"),
]


def begin(shards: Path, out: Path, ranks: int) -> Life:
    return Life(fork(["embed", str(shards), str(out), *OPTIONS], small_blocks), ranks)


def kill_often(shards: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill so often, each time when a few files more are there; return how many stores were whole in between."""
    rng, whole = random.Random(seed), 0
    begin(shards, folder / "unbroken", 1).finish(200)
    expected, out = contents(folder / "unbroken"), folder / "broken"
    while kills:
        life = begin(shards, out, rng.choice([1, 2]))
        wanted = len(list(out.rglob("*.*"))) + rng.randrange(1, 6)
        while life.code() is None and len(list(out.rglob("*.*"))) < wanted:
            time.sleep(0.001)
        if life.code() is None:
            life.kill_group(None if rng.random() < 0.7 else [0])
            kills -= 1
            if not life.wait(60):
                life.kill_group()
                life.wait(60)
            continue
        life.finish(200)
        assert contents(out) == expected
        shutil.rmtree(out)
        whole += 1
    begin(shards, out, 2).finish(200)
    assert contents(out) == expected
    return whole + 1


@pytest.mark.slow
@pytest.mark.dist
def test_kills_change_nothing(shards, tmp_path):
    assert kill_often(shards, tmp_path, kills=4, seed=0)
