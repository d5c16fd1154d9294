"""A request to stop is heard wherever a run is: in an evaluation, while the ranks meet, before the first step."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import python, small_settings, write_config
from harness.ranks import run_ranks
from harness.servers import ShardServer
from lives import Life, fork, free_port
from runs import steps

from ccscale import dist
from ccscale.checkpoint import find
from ccscale.checkpoint.saver import Saver
from ccscale.config import Config, Model
from ccscale.config.file import parse_config
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate import assign as assigning
from ccscale.evaluate.assign import measure
from ccscale.model.network import ContrastiveClustering
from ccscale.preempt import Stopped, StopRequest
from ccscale.train import loop
from ccscale.train.loop import Outcome
from ccscale.train.train import train_run


def evaluations(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line | {"time": None} for line in lines if line["kind"] == "evaluation"]


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that evaluations assign; SIGTERM comes while the third is assigned."""
    sizes: list[int] = []
    original = assigning.assign_batch

    def assign(network: Any, batch: Any, groups: Any) -> Any:
        sizes.append(len(batch.keys))
        if len(sizes) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(network, batch, groups)

    monkeypatch.setattr(assigning, "assign_batch", assign)
    return sizes


@pytest.mark.parametrize(
    "last",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["on the way", "at the end"],
)
def test_an_evaluation_is_cut_off_after_a_batch_and_made_after_the_resume(
    shards, tmp_path, batches, capfd, last
):
    """9 steps an epoch; nothing is saved before the evaluation on the way, as no checkpoint is due."""
    settings = small_settings(shards, tmp_path / "run", evaluate={"every": 1, "batch": 10})
    settings["train"] |= {"epochs": 1 if last else 2, "log_every": 5}
    outcome = train_run(parse_config(settings))
    assert batches == [10, 10, 10]
    assert outcome == Outcome(9, finished=False)
    assert "stopped on SIGTERM at step 9 of" in capfd.readouterr().err
    assert checkpoints(tmp_path / "run") == [9]
    assert [record["step"] for record in steps(tmp_path / "run")] == list(range(1, 10))
    assert evaluations(tmp_path / "run") == []
    assert train_run(parse_config(settings)).finished
    assert train_run(parse_config(settings | {"run": str(tmp_path / "unbroken")})).finished
    assert evaluations(tmp_path / "run") == evaluations(tmp_path / "unbroken")
    assert [line["step"] for line in evaluations(tmp_path / "run")] == ([9] if last else [9, 18])


def test_waiting_for_a_batch_of_an_evaluation_ends_too(shards, tmp_path, monkeypatch):
    """As from a store that does not answer."""

    def never(*arguments: Any, **options: Any) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
        yield

    monkeypatch.setattr(assigning, "whole_batches", never)
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2)
    assert train_run(parse_config(settings)) == Outcome(2, finished=False)
    assert checkpoints(tmp_path / "run") == [2]


def stopped_on_one(rank: int, shards: str) -> tuple[int, bool]:
    """Tell rank 1 to stop in its second batch; return how many batches this rank took, and how it ended."""
    torch.manual_seed(0)
    network = ContrastiveClustering(Model(backbone="test_resnet", clusters=4), 16)
    config = Config.model_validate(small_settings(Path(shards), Path("none")) | {"evaluate": {"batch": 5}})
    request, taken, original = StopRequest(), [], assigning.assign_batch

    def assign(*arguments: Any) -> Any:
        taken.append(1)
        if rank == 1 and len(taken) == 2:
            request._note(signal.SIGTERM, None)
        return original(*arguments)

    assigning.assign_batch = assign  # type: ignore[assignment]
    try:
        measure(network, Manifest.load(shards), ["train"], config, request=request, progress=False)
    except Stopped:
        return len(taken), True
    return len(taken), False


@pytest.mark.dist
def test_all_ranks_leave_an_evaluation_when_one_is_told_to_stop(shards):
    assert run_ranks(2, stopped_on_one, str(shards)) == [(2, True), (2, True)]


@pytest.mark.parametrize(
    "place",
    [
        "setup.open_data",
        "setup.open_run_data",
        "setup.open_training",
        "setup.restore",
        "loop.Feed.fetch_first",
    ],
    ids=lambda place: place,
)
def test_before_the_first_step_there_is_nothing_to_save(shards, tmp_path, monkeypatch, capfd, place):
    """Whatever it is at when the signal comes ends there."""

    def strike(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    monkeypatch.setattr(f"ccscale.train.{place}", strike)
    outcome = train_run(parse_config(small_settings(shards, tmp_path / "run")))
    assert outcome == Outcome(None, finished=False)
    assert (
        capfd.readouterr().err.splitlines()[-1]
        == "stopped on SIGTERM, with nothing to save; run the same command to continue"
    )
    assert not (tmp_path / "run" / "checkpoints").exists() or not checkpoints(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.dist
def test_waiting_for_the_other_ranks_ends_with_a_signal(shards, tmp_path, number):
    config = write_config(tmp_path, small_settings(shards, tmp_path / "run"))
    port = free_port()
    place = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    (tmp_path / "said").touch()
    process = fork(["train", str(config)])(place, tmp_path / "said")
    try:
        begun = time.monotonic()
        while not is_open(port):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() - begun < 120
            time.sleep(0.05)
        os.kill(process.pid, number)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < 60:  # torch gives up after half an hour
            time.sleep(0.05)
        assert process.poll() == 75
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [f"stopped on {number.name}, with nothing to save; run the same command to continue"]


def is_open(port: int) -> bool:
    """Tell whether somebody listens: to connect until it succeeds may connect a socket with itself."""
    sockets = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return any(local.endswith(f":{port:04X}") and state == "0A" for _, local, _, state, *_ in sockets[1:])


class TestMinutes:
    """`train.save_minutes` saves, by the first rank's clock, and changes nothing that is computed."""

    def test_checkpoints_are_saved_by_time(self, shards, tmp_path, monkeypatch):
        """Each step is half a minute long, by the clock that the saver looks at."""
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(
            "ccscale.checkpoint.saver.time",
            SimpleNamespace(monotonic=lambda: clock.now, perf_counter=time.perf_counter, sleep=time.sleep),
        )
        original, saved = loop.Trainer.agree, []

        def agree(trainer: loop.Trainer, *arguments: Any) -> Any:
            trainer.saver.finish()  # a save that is still under way at the next one would put it off
            clock.now += 30
            return original(trainer, *arguments)

        def begin(saver: Saver, step: int, *arguments: Any, **options: Any) -> None:
            saved.append(step)
            originally(saver, step, *arguments, **options)

        originally = Saver.begin
        monkeypatch.setattr(loop.Trainer, "agree", agree)
        monkeypatch.setattr(Saver, "begin", begin)
        settings = small_settings(shards, tmp_path / "run", train__max_steps=9, train__save_minutes=2.0)
        assert train_run(parse_config(settings)).finished
        assert saved == [4, 8, 9]
        saved.clear()
        plain = small_settings(shards, tmp_path / "plain", train__max_steps=9, train__save_minutes=None)
        assert train_run(parse_config(plain)).finished
        assert saved == [9]
        alike = ("step", "loss", "batch_digest")
        assert [[record[name] for name in alike] for record in steps(tmp_path / "run")] == [
            [record[name] for name in alike] for record in steps(tmp_path / "plain")
        ]

    @pytest.mark.dist
    def test_the_first_rank_s_clock_counts(self):
        assert run_ranks(2, is_late) == [True, False]

    def test_it_may_change_under_a_run(self, shards, tmp_path):
        settings = small_settings(shards, tmp_path / "run", train__max_steps=1)
        assert train_run(parse_config(settings)).finished
        settings["train"] |= {"max_steps": 2, "save_minutes": 3}
        assert train_run(parse_config(settings)).finished
        assert find(tmp_path / "run").newest.step == 2


def is_late(rank: int) -> bool:
    """Return what this rank's saver votes an hour after its last save."""
    config = SimpleNamespace(train=SimpleNamespace(save_minutes=30.0))
    saver = SimpleNamespace(config=config, is_busy=False, _begun=time.monotonic() - 3600)
    assert dist.rank() == rank
    return Saver.is_late.fget(saver)  # type: ignore[attr-defined]


@pytest.mark.dist
def test_ranks_that_wait_for_the_one_that_is_stopped_stop_too(shards, tmp_path):
    """Rank 0 reads a manifest that does not come; rank 1 waits for it in a call that hears no signal."""
    with ShardServer(shards) as server:
        server.fail("dataset.json", "503", float("inf"))
        settings = small_settings(shards, tmp_path / "run", train__rank_timeout=3)
        settings["data"] |= {"shards": server.url, "retry_seconds": 1500.0}
        life = Life(fork(["train", str(write_config(tmp_path, settings))]), 2)
        try:
            while not server.requests["dataset.json"] and life.code() is None and life.seconds < 120:
                time.sleep(0.05)
            os.kill(life.groups[0], signal.SIGTERM)
            assert life.wait(60), life.said()
        finally:
            life.kill_group()
    assert life.codes() == [75, 75]
    assert "stopped on SIGTERM, with nothing to save" in life.said()


def test_a_signal_while_it_loads_ends_it(shards, tmp_path):
    """Imports take seconds, on a busy machine a minute."""
    code = (
        "import os, signal, sys, time\n"
        "class Loading:\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "            time.sleep(600)\n"
        "sys.meta_path.insert(0, Loading)\n"
        "from ccscale.cli import entry\n"
        "entry()\n"
    )
    ended = python("-c", code, "train", str(write_config(tmp_path, small_settings(shards, tmp_path / "run"))))
    assert ended.returncode == 75
    assert ended.stderr.splitlines() == [
        "loading PyTorch",
        "stopped on SIGTERM, with nothing to save; run the same command to continue",
    ]
