"""The command line under launchers: torchrun, DeepSpeed's own, and a Slurm step's variables."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import small_settings
from lives import Life, fork, free_port
from runs import LIMIT, steps

from ccscale.checkpoint import find
from ccscale.cli.main import main

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("launchers") / "config.yaml"
    path.write_text(json.dumps(small_settings(shards, path.parent / "run", train__max_steps=2)))
    return path


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def tasks_of_a_slurm_step() -> list[dict[str, str]]:
    """Return what srun gives two tasks: no launcher in between, ranks by SLURM_PROCID."""
    common = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_JOB_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [common | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)} for task in range(2)]


def test_a_slurm_step(config: Path, tmp_path: Path) -> None:
    command = ["train", str(config), f"run={tmp_path / 'run'}", "--json"]
    files = [[tmp_path / f"{what}-{task}" for what in ("out", "err")] for task in range(2)]
    tasks = [
        fork(command, out=out)(given, err)
        for given, (out, err) in zip(tasks_of_a_slurm_step(), files, strict=True)
    ]
    while None in (codes := [task.poll() for task in tasks]):
        time.sleep(0.05)
    said = [[file.read_text() for file in of_task] for of_task in files]
    assert codes == [0, 0], said
    assert json.loads(said[0][0]) == {"run": str(tmp_path / "run"), "step": 2, "finished": True}
    assert said[1][0] == ""  # only rank 0 speaks
    assert said[0][1].count("training on 2 ranks") == 1
    assert "training on" not in said[1][1]


def test_a_signal_to_one_rank_stops_all_at_the_same_step(config: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    start = fork(["train", str(config), f"run={run_folder}", "train.max_steps=1000", "train.epochs=1000"])
    said = [tmp_path / f"said-{task}" for task in range(2)]
    tasks = [start(given, file) for given, file in zip(tasks_of_a_slurm_step(), said, strict=True)]
    while len(steps(run_folder)) < 3 and tasks[1].poll() is None:
        time.sleep(0.05)
    os.kill(tasks[1].pid, signal.SIGUSR1)
    while None in (codes := [task.poll() for task in tasks]):
        time.sleep(0.05)
    assert codes == [75, 75], [file.read_text() for file in said]
    done = len(steps(run_folder))
    assert f"stopped on a signal on another rank at step {done} of 1000, saved" in said[0].read_text()
    assert (run_folder / "checkpoints" / f"step-{done:08d}" / "COMMIT.json").exists()


def test_torchrun_trains_and_as_many_ranks_evaluate_and_predict(
    config: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    folder = str(tmp_path / "run")
    trained = run([*torchrun, "-m", "ccscale", "train", str(config), f"run={folder}"])
    assert trained.returncode == 0, trained.stderr
    command, out = ["evaluate", folder, "--device", "cpu", "--json"], tmp_path / "out.json"
    Life(fork(command, out=out), 2).finish(LIMIT)  # with the variables that torchrun gives
    assert main(command) == 0
    alone, together = json.loads(capsys.readouterr().out), json.loads(out.read_text())
    for name in ("sizes", "acc", "nmi", "k_means"):
        assert alone[name] == together[name]
    table = tmp_path / "out.parquet"
    Life(fork(["predict", folder, "--shards", str(shards), "--out", str(table)]), 2).finish(LIMIT)
    keys = pq.read_table(table)["key"].to_pylist()
    assert len(keys) == len(set(keys)) == 150


def test_a_mistake_is_told_once(config: Path, tmp_path: Path) -> None:
    """16 lanes and 3 ranks: one sentence, not three, and nothing is written."""
    failed = Life(fork(["train", str(config), f"run={tmp_path / 'run'}"]), 3)
    assert failed.wait(LIMIT)
    assert failed.codes() == [2, 2, 2]
    lines = [line for line in failed.said().splitlines() if line.startswith("error")]
    assert lines == [
        "error: 3 ranks do not divide the 16 lanes of this run; start 1, 2, 4, 8, 16 ranks, or set data.lanes and "
        "train.global_batch to multiples of 3"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("launcher", "number", "code"),
    [
        ("torchrun", signal.SIGTERM, 1),  # as SIGINT
        ("deepspeed", signal.SIGTERM, -signal.SIGTERM),  # as SIGKILL: it catches neither
    ],
)
def test_all_save_on_a_signal_to_the_launcher(
    config: Path, tmp_path: Path, launcher: str, number: signal.Signals, code: int
) -> None:
    """Whatever the launcher itself does then, end later or at once; docs/how-to/many-gpus.md has the table."""
    folder = tmp_path / "run"
    command = {
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m"],
        "deepspeed": [str(Path(sys.executable).parent / "deepspeed"), "--num_gpus=2", "--module"],
    }[launcher]
    command.insert(-1, f"--master_port={free_port()}")
    settings = [f"run={folder}", "train.max_steps=10000", "train.epochs=10000", "train.save_every=10000"]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(
            [*command, "ccscale", "train", str(config), *settings],
            stdout=said,
            stderr=said,
            env=os.environ | {"DS_ACCELERATOR": "cpu"},
        )
    while len(steps(folder)) < 3 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == code
    while is_trained(folder):
        time.sleep(0.05)
    found = find(folder).newest
    assert found is not None, (tmp_path / "said").read_text()
    assert found.step == len(steps(folder)) < 10000


def is_trained(folder: Path) -> bool:
    """Tell whether there are processes that train in a folder."""
    listed = subprocess.run(["ps", "-wwe", "-o", "args"], capture_output=True, text=True, check=True)
    return f"run={folder}" in listed.stdout
