"""What rank 0 does after a stop, and runs that are launched on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import small_settings, write_config
from same_run import steps, train

from ccscale.launch.job import Training, _take_place


class TestStop:
    """With squeue's part played by a script, and submitit's handler by one that ends as it does."""

    def stop(
        self, cluster: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[bool, int]:
        squeue = tmp_path / "squeue"
        squeue.write_text(f"#!/bin/bash\n[ \"$*\" = '--noheader --format=%T --jobs=7' ] && echo {state}\n")
        squeue.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        requeued = []

        def handler(number: int, frame: object) -> None:
            requeued.append(number)
            sys.exit(-1)

        before = signal.signal(signal.SIGUSR2, handler)
        leaving = SimpleNamespace(code=1)
        try:
            with pytest.raises(SystemExit):
                Training({})._stop(SimpleNamespace(cluster=cluster, USR_SIG="USR2"), leaving)  # type: ignore[arg-type]
        finally:
            signal.signal(signal.SIGUSR2, before)
        return requeued == [signal.SIGUSR2], leaving.code

    def test_a_running_job_is_requeued(self, tmp_path, monkeypatch):
        assert self.stop("slurm", "RUNNING", tmp_path, monkeypatch) == (True, 255)

    @pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", ""])
    def test_a_cancelled_one_is_not(self, state, tmp_path, monkeypatch):
        assert self.stop("slurm", state, tmp_path, monkeypatch) == (False, 75)

    def test_on_this_machine_it_is_not(self, tmp_path, monkeypatch):
        assert self.stop("local", "RUNNING", tmp_path, monkeypatch) == (False, 75)


def test_the_next_life_runs_the_same():
    again = Training({"seed": 3}).checkpoint()
    assert isinstance(again.function, Training)
    assert (again.function.settings, again.args, again.kwargs) == ({"seed": 3}, (), {})


def test_place_on_this_machine(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "of another launcher")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    job = SimpleNamespace(
        cluster="local", num_tasks=4, num_nodes=1, global_rank=2, local_rank=2, job_id="20007"
    )
    _take_place(job)  # type: ignore[arg-type]
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == list(
        "2424"
    )
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("127.0.0.1", "20007")
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    return write_config(folder, small_settings(shards, folder / "run"))


@pytest.mark.slow
@pytest.mark.dist
class TestOnThisMachine:
    """Two ranks by submitit's local executor, against two ranks by torchrun."""

    def launch(self, config: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "ccscale",
            "launch",
            str(config),
            "--cluster=local",
            "--json",
            "--follow",
        ]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def test_stopped_and_launched_again(self, config, tmp_path):
        run = tmp_path / "run"
        first = self.launch(
            config, "--tasks-per-node=2", f"run={run}", "train.max_steps=10000", "train.epochs=9999"
        )
        (job,) = json.loads(first.stdout.readline())["jobs"]  # type: ignore[union-attr]
        assert job["run"] == str(run)
        while len(steps(run)) < 3 and first.poll() is None:
            time.sleep(0.05)
        os.kill(
            int(job["job"]), signal.SIGTERM
        )  # the number is that of submitit's process, which passes it on
        _, said = first.communicate()
        assert first.returncode == 1, said
        done = len(steps(run))
        assert f"stopped on SIGTERM at step {done} of 10000, saved" in said
        again = self.launch(
            config, "--tasks-per-node=2", f"run={run}", f"train.max_steps={done + 2}", "train.epochs=9999"
        )
        _, said = again.communicate()
        assert again.returncode == 0, said
        assert f"going on from step {done} of {done + 2}" in said
        train(config, 2, [f"run={tmp_path / 'other'}", f"train.max_steps={done + 2}", "train.epochs=9999"])
        names = ("step", "loss", "batch_digest")
        assert [[record[name] for name in names] for record in steps(run)] == [
            [record[name] for name in names] for record in steps(tmp_path / "other")
        ]

    def test_a_mistake_in_the_data_is_told_in_a_sentence(self, config, tmp_path):
        job = self.launch(config, f"run={tmp_path / 'run'}", "data.splits=[trian]")
        _, said = job.communicate()
        assert job.returncode == 1
        assert "has no split 'trian'; did you mean 'train'?" in said
        assert "Traceback" not in said
        assert not (tmp_path / "run").exists()
