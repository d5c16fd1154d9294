"""W&B and MLflow themselves: a run, its end taken back to a checkpoint as after a kill, and gone on with."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import small_settings, write_config

from ccscale.checkpoint.metrics_file import METRICS, read_lines
from ccscale.cli.main import main
from ccscale.train.trackers.mlflow_run import MlflowRun

pytestmark = pytest.mark.slow


def train_twice(shards: Path, folder: Path, **log: str) -> list[dict[str, Any]]:
    """Train six steps, lose those after the fourth, and train eight; return the lines as they were first taken."""
    for stop in (6, 8):
        settings = small_settings(shards, folder / "run", train__max_steps=stop, train__save_every=4)
        assert main(["train", str(write_config(folder, settings | {"log": log}))]) == 0
        if stop == 6:
            first = read_lines(folder / "run" / METRICS)
            shutil.rmtree(folder / "run/checkpoints/step-00000006")
    return first + [line for line in read_lines(folder / "run" / METRICS) if line["step"] > 6]


def records(path: Path) -> Iterator[Any]:
    """Yield the records of one of W&B's files: LevelDB's log format behind 7 bytes, protocol buffers in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def test_wandb_offline(shards, tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    lines = train_twice(shards, tmp_path, wandb="team/photos", name="first try")
    paths = sorted((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(paths) == 2
    found = [record for path in paths for record in records(path)]
    begun = [record.run for record in found if record.HasField("run")]
    assert len({one.run_id for one in begun}) == 1
    assert {(one.entity, one.project, one.display_name) for one in begun} == {("team", "photos", "first try")}
    config = {item.key: item.value_json for item in begun[0].config.update}
    config |= {item.key: item.value_json for record in found for item in record.config.update}
    assert json.loads(config["train"])["global_batch"] == 16
    got: dict[int, dict[str, float]] = {}
    for record in found:
        if record.HasField("history"):
            row = {
                item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item
            }
            step = row.pop("_step")
            assert step not in got  # each step once
            got[step] = row
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(got) == list(range(1, 9))
    for line in steps:
        assert got[line["step"]]["train/loss"] == line["loss"]
        assert got[line["step"]]["train/images_per_second"] == line["images_per_second"]
    assert {step for step, row in got.items() if "evaluate/confidence" in row} == {6, 8}
    said = capfd.readouterr()
    assert said.err.count("W&B: kept offline; `wandb sync ") == 2
    assert "wandb:" not in said.err + said.out


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """MLflow's own server where the whole package is there, else files, which its small one can write."""
    if find_spec("flask") is None or find_spec("sqlalchemy") is None:
        yield (tmp_path / "mlruns").as_uri()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--workers",
        "1",
        "--port",
        str(port),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, **quiet, cwd=tmp_path, env=env, start_new_session=True)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_mlflow(shards, tmp_path, monkeypatch, server):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    lines = train_twice(shards, tmp_path, mlflow="photos")
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("photos")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["train.global_batch"] == "16"
    assert run.data.params["train.max_steps"] == "6"  # they do not change there
    assert run.data.tags["train.max_steps"] == "8"
    steps = [line for line in lines if line["kind"] == "step"]
    for name in ("loss", "images_per_second", "lr"):
        history = sorted(
            client.get_metric_history(run.info.run_id, f"train/{name}"), key=lambda one: one.step
        )
        assert [(one.step, one.value) for one in history] == [(line["step"], line[name]) for line in steps]
    evaluated = client.get_metric_history(run.info.run_id, "evaluate/confidence")
    assert sorted(one.step for one in evaluated) == [6, 8]
    (tmp_path / "run/mlflow.json").write_text(
        '{"damaged'
    )  # a copy of the run without it: a run of its own, whole
    settings = small_settings(shards, tmp_path / "run", train__max_steps=8, log={"mlflow": "photos"})
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    whole = client.get_metric_history(runs[0].info.run_id, "train/loss")
    assert sorted(one.step for one in whole) == list(range(1, 9))


def test_what_mlflow_takes_at_a_time_is_whole_lines_and_what_it_has_then(monkeypatch):
    """So that neither a kill nor a failure between two calls sends a step twice."""
    pytest.importorskip("mlflow")
    monkeypatch.setattr("ccscale.train.trackers.mlflow_run.MOST", 5)
    got: list[tuple[list[int], str]] = []

    def log_batch(run, metrics=(), params=(), tags=()):
        if len(got) == 1 and tags:
            got.append(([], "lost"))
            raise OSError("no answer")
        if metrics:
            got.append(([metric.step for metric in metrics], tags[0].value))

    tracker = MlflowRun("photos", "run", {})
    tracker._client, tracker._run, tracker._params, tracker._sent = (
        SimpleNamespace(log_batch=log_batch),
        "1",
        None,
        {},
    )
    lines = [{"kind": "step", "step": n, "time": 1.0, "loss": 2.0, "lr": 0.1} for n in (1, 2, 3)]
    with pytest.raises(OSError, match="no answer"):
        tracker.add(lines, {"step": 3})
    tracker.add(lines, {"step": 3})
    assert got == [([1, 1, 2, 2], '{"step": 2}'), ([], "lost"), ([3, 3], '{"step": 3}')]
