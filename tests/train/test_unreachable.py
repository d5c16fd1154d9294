"""Training on shards over HTTP: what stays unreachable stops the run, saved, and it goes on exactly there."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_settings, write_config
from harness.servers import ShardServer, wait_until
from lives import Life, fork
from runs import SAME, difference, start, steps, train

from ccscale.checkpoint import find
from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import Fault, InputError
from ccscale.train.train import train_run

ENDLESS = float("inf")
RETRY = 3.0  # long enough for a busy machine
LIMIT = 120.0  # seconds for one start


@pytest.fixture
def server(shards: Path, tmp_path: Path) -> Iterator[ShardServer]:
    with ShardServer(shutil.copytree(shards, tmp_path / "served")) as server:
        yield server


def settings_of(server: ShardServer, run: Path) -> dict:
    """A pass of 18 steps in two lanes: each reads two shards and a part of a third in an epoch, in whole shards."""
    settings = small_settings(server.root, run, train__global_batch=8, train__epochs=1)
    settings["data"] |= {"shards": server.url, "lanes": 2, "piece": 1000, "block": 8, "retry_seconds": RETRY}
    return settings


def last_shard_of(settings: dict, lane: int) -> str:
    """The shard that a lane reads last, and no other lane does."""
    config = parse_config(settings)
    manifest = Manifest.load(config.data.shards)
    (schedule,) = make_schedule(config, manifest.shards, 2).phases
    sample = schedule.epoch(0).lane(lane, schedule.span - 1, schedule.span)[0]
    return manifest.shards[int(sample) // 32].url


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    with ShardServer(shards) as server:
        train_run(parse_config(settings_of(server, run)))
    return steps(run)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_run_stops_by_name_and_goes_on_there(
    server: ShardServer, tmp_path: Path, unbroken: list[dict], workers: int
) -> None:
    config = write_config(tmp_path, settings_of(server, tmp_path / "run"))
    lost = last_shard_of(settings_of(server, tmp_path / "run"), 1)
    server.fail(lost, "503", ENDLESS)
    stopped = start(config, 1, [f"data.workers={workers}"])
    assert stopped.wait(LIMIT)
    assert stopped.code() == 1
    saved = find(tmp_path / "run").newest
    assert saved is not None
    assert 0 < saved.step < 18
    error = stopped.said().splitlines()[-1]
    assert error.startswith(f"error: {server.url}/{lost.removesuffix('.tar')}")
    assert re.search(
        r" cannot be read: the server answers 503 \(\d+ tries in 3 seconds\); the run is saved ", error
    )
    assert error.endswith(f" is saved at step {saved.step}: run the same command to resume")
    assert "Traceback" not in stopped.said()
    assert [record["step"] for record in steps(tmp_path / "run")] == list(range(1, saved.step + 1))
    again = start(config, 1, [])  # as long as it lasts, it stops there again
    assert again.wait(LIMIT)
    assert again.code() == 1
    server.mend()
    assert f"going on from step {saved.step} of 18" in train(config, 1, [f"data.workers={workers}"])
    assert difference(steps(tmp_path / "run"), unbroken) == (True, SAME)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_does_not_answer_keeps_no_run_from_stopping(
    server: ShardServer, tmp_path: Path, unbroken: list[dict], workers: int
) -> None:
    settings = settings_of(server, tmp_path / "run")
    settings["data"] |= {"retry_seconds": 1500.0, "workers": workers}
    config = write_config(tmp_path, settings)
    lost = last_shard_of(settings, 1)
    server.fail(lost, "stall", ENDLESS)
    life = start(config, 1, [])
    wait_until(lambda: server.requests[lost] > 0 and len(steps(tmp_path / "run")) > 0)
    time.sleep(1)  # so that it waits for the next batch; were it still in a step, it would stop as well
    os.kill(life.groups[0], signal.SIGTERM)
    assert life.wait(LIMIT)
    assert life.code() == 75, life.said()
    done = len(steps(tmp_path / "run"))
    assert f"stopped on SIGTERM at step {done} of 18, saved" in life.said()
    server.mend()
    train_run(parse_config(settings))
    assert difference(steps(tmp_path / "run"), unbroken) == (True, SAME)


@pytest.mark.slow
@pytest.mark.dist
def test_one_rank_that_cannot_read_stops_both(
    server: ShardServer, tmp_path: Path, unbroken: list[dict]
) -> None:
    config = write_config(tmp_path, settings_of(server, tmp_path / "run"))
    server.fail(last_shard_of(settings_of(server, tmp_path / "run"), 1), "503", ENDLESS)
    life = start(config, 2, [])
    assert life.wait(LIMIT)
    assert life.code() == 1
    saved = find(tmp_path / "run").newest
    assert saved is not None
    assert 0 < saved.step < 18
    errors = [line for line in life.said().splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error on rank 1: {server.url}/train-00000")
    assert errors[0].endswith(f"; the run is saved at step {saved.step}: run the same command to resume")
    server.mend()
    train(config, 2)
    digests, _ = difference(steps(tmp_path / "run"), unbroken)
    assert digests


@pytest.mark.slow
@pytest.mark.dist
def test_one_rank_that_cannot_read_ends_a_prediction(server: ShardServer, tmp_path: Path) -> None:
    train_run(parse_config(settings_of(server, tmp_path / "run") | {"evaluate": {"splits": ["train"]}}))
    server.fail(r"000004\.tar", "503", ENDLESS)  # rank 1's
    table = tmp_path / "table.csv"
    command = fork(["predict", str(tmp_path / "run"), "--shards", server.url, "--out", str(table)])
    for ranks in (1, 2):
        life = Life(command, ranks)
        assert life.wait(LIMIT)
        assert life.code() == 1
        errors = [line for line in life.said().splitlines() if line.startswith("error")]
        assert len(errors) == 1
        assert re.search(
            r"/train-000004\.tar cannot be read: the server answers 503 \(\d+ tries in 3 seconds", errors[0]
        )
        assert not table.exists()


def test_data_that_cannot_be_read_from_the_start_leave_no_checkpoint(
    server: ShardServer, tmp_path: Path
) -> None:
    config = parse_config(settings_of(server, tmp_path / "run"))
    server.fail(r"\.tar", "503", ENDLESS)
    with pytest.raises(Fault, match=r"cannot be read: the server answers 503 \(\d+ tries in 3 seconds\)$"):
        train_run(config)
    server.mend()
    server.fail(r"\.tar", "404", ENDLESS)
    with pytest.raises(InputError, match=r"\.tar: there is no such file$"):
        train_run(config)
    assert find(tmp_path / "run").newest is None


def test_data_that_go_bad_are_a_fault_and_the_run_is_saved(
    server: ShardServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(server, tmp_path / "run")
    settings["train"] |= {"log_every": 100}
    logged, rename = [], os.rename

    def watched_rename(source: Path, target: Path) -> None:
        logged.extend(map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched_rename)
    server.fail(last_shard_of(settings, 0), "404", ENDLESS)
    with pytest.raises(Fault, match=r"there is no such file; the run is saved at step (\d+): run the same"):
        train_run(parse_config(settings))
    saved = find(tmp_path / "run").newest
    assert saved is not None
    assert 0 < saved.step < 18
    assert [line["step"] for line in logged] == list(
        range(1, saved.step + 1)
    )  # a kill from then on loses no line


@pytest.mark.slow
def test_an_evaluation_that_cannot_read_leaves_the_run_saved(server: ShardServer, tmp_path: Path) -> None:
    settings = settings_of(server, tmp_path / "run")
    settings["train"] |= {"epochs": 2}
    settings["evaluate"] = {"every": 1}
    server.fail(r"000000\.index", "503", ENDLESS, after=1)  # training reads it once, and keeps it
    with pytest.raises(Fault, match=r"answers 503 .*; the run is saved at step 18: run the same command"):
        train_run(parse_config(settings))
    saved = find(tmp_path / "run").newest
    assert saved is not None
    assert saved.step == 18
    server.mend()
    assert train_run(parse_config(settings)).finished
    records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [record["step"] for record in records if record["kind"] == "evaluation"] == [18, 36]
    assert [record["step"] for record in steps(tmp_path / "run")] == list(range(1, 37))
