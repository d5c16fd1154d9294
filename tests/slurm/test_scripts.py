"""What the scripts in slurm/ do by the exit code of srun, with the parts of srun and scontrol played by scripts."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "slurm"
STOPPED = (75, 138, 140, 143)
LOST = (76, 134, 135, 137, 139)  # 128 + SIGABRT, SIGBUS, SIGKILL, SIGSEGV
FAILED = (0, 1, 2, 130)


def run(tmp_path: Path, script: str, code: int, restarts: int) -> list[str]:
    """Run a script whose tasks end with a code; return what scontrol was asked to do beside naming the nodes."""
    (tmp_path / "srun").write_text(f"#!/bin/bash\nexit {code}\n")
    asked = f'[ "$1" = show ] && echo n1 || echo "$*" >> {tmp_path}/asked'
    (tmp_path / "scontrol").write_text(f"#!/bin/bash\n{asked}\n")
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    slurm = {
        "JOB_ID": "7",
        "ARRAY_JOB_ID": "7",
        "ARRAY_TASK_ID": "3",
        "CPUS_PER_TASK": "1",
        "JOB_NODELIST": "n1",
    }
    environment = {f"SLURM_{name}": value for name, value in slurm.items()} | {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_RESTART_COUNT": str(restarts),
        "VENV": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", SCRIPTS / script, "runs", "config.yaml"], env=os.environ | environment, capture_output=True
    )
    assert done.returncode == code, done.stderr
    return (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []


@pytest.mark.parametrize(("script", "job"), [("train.sbatch", "7"), ("seeds.sbatch", "7_3")])
@pytest.mark.parametrize("code", [*STOPPED, *LOST, *FAILED])
def test_which_jobs_are_requeued(tmp_path: Path, script: str, job: str, code: int) -> None:
    assert run(tmp_path, script, code, 0) == ([f"requeue {job}"] if code in STOPPED + LOST else [])


@pytest.mark.parametrize("code", [75, 134])
def test_a_job_that_loses_ranks_is_not_requeued_for_ever(tmp_path: Path, code: int) -> None:
    assert run(tmp_path, "train.sbatch", code, 50) == (["requeue 7"] if code == 75 else [])
