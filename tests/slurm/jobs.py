"""A job on the test cluster, and what befalls it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runs import steps

ROOT = Path(__file__).parents[2]
SLOW = Path(__file__).parent / "slow"
PATIENCE = 600.0
"""Seconds that anything may take on a machine that is busy with other things."""
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


def call(*command: str | Path, slow: tuple[int, float] = (0, 0.0)) -> str:
    """Run a command and return what it prints; `slow`: the first so many lives of a job take so long for a step."""
    names = {
        "VENV": str(Path(sys.prefix)),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SLOW), os.environ.get("PYTHONPATH")])),
        "SLOW_LIVES": str(slow[0]),
        "SLOW_STEP": str(slow[1]),
    }
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | names, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(reached: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fail if it is not reached."""
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < limit, f"{what}: not reached"
        time.sleep(0.7)


def break_node(verb: str, node: str) -> None:
    """Kill a node of the cluster, or revive it."""
    folder = Path(os.environ["SLURM_CONF"]).parent
    call(sys.executable, ROOT / "tools" / "slurm_test_cluster", verb, node, "--folder", folder)


class Job:
    """A job, by Slurm's number for it, and the run that it trains."""

    def __init__(self, number: str, run: Path) -> None:
        self.number, self.run = number, run

    @classmethod
    def batch(
        cls,
        script: str,
        options: list[str],
        arguments: list[str],
        run: Path,
        slow: tuple[int, float] = (0, 0.0),
    ) -> "Job":
        """Submit one of the scripts in slurm/."""
        output = run.parent / f"{run.name}-%j.out"
        common = ["--parsable", "--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1"]
        command = [
            "sbatch",
            *common,
            f"--output={output}",
            *options,
            str(ROOT / "slurm" / script),
            *arguments,
        ]
        return cls(call(*command, slow=slow).strip(), run)

    @classmethod
    def launch(
        cls, config: Path, run: Path, options: list[str], slow: tuple[int, float] = (0, 0.0)
    ) -> list["Job"]:
        """Submit by ``ccscale launch``."""
        command = [sys.executable, "-m", "ccscale", "launch", str(config), f"run={run}", "--cpus-per-task=1"]
        jobs = json.loads(call(*command, *options, "--json", slow=slow))["jobs"]
        return [cls(job["job"], Path(job["run"])) for job in jobs]

    def task(self, number: int) -> "Job":
        """Return a task of an array of seeds."""
        return Job(f"{self.number}_{number}", self.run / f"seed={number}")

    def field(self, name: str) -> str:
        """Return a field of what Slurm tells of the job."""
        told = call("scontrol", "show", "job", "--oneliner", self.number)
        return next(word for word in told.split() if word.startswith(f"{name}=")).partition("=")[2]

    @property
    def restarts(self) -> int:
        """Return how often it was requeued."""
        return int(self.field("Restarts"))

    @property
    def steps(self) -> int:
        """Return the number of steps in the run's log."""
        return len(steps(self.run))

    def wait_for_life(self, life: int, steps: int = 0) -> None:
        """Wait until it has been requeued so often, and runs, and the run has so many steps."""
        what = f"step {steps} in life {life} of job {self.number}"

        def reached() -> bool:
            state = self.field("JobState")
            assert state not in ENDED, f"{what}: it has ended, {state}"
            return self.steps >= steps and self.restarts == life and state == "RUNNING"

        wait_for(reached, what)

    def kill_rank(self, rank: int) -> None:
        """Kill the process of a rank, with SIGKILL."""
        wanted = {f"SLURM_JOB_ID={self.number}".encode(), f"SLURM_PROCID={rank}".encode()}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = set((folder / "environ").read_bytes().split(b"\0"))
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended, or is not ours to read
                continue
            if wanted <= environment and (b"ccscale" in command or b"submitit" in command):
                found.append(int(folder.name))
        os.kill(min(found), signal.SIGKILL)  # the loader workers came later

    def leave_minutes(self, minutes: int) -> None:
        """Let its time end in so many minutes, or one more: Slurm counts whole ones, and looks every 30 s."""
        hours, passed, _ = map(int, self.field("RunTime").split(":"))
        limit = 60 * hours + passed + 1 + minutes
        call("scontrol", "update", f"JobId={self.number}", f"TimeLimit={limit}")

    def allow_all_nodes(self) -> None:
        """Lift --exclude, when the job waits for nodes: Slurm takes no change while it runs."""
        wait_for(lambda: self.field("JobState") == "PENDING", f"job {self.number} without its node")
        call("scontrol", "update", f"JobId={self.number}", "ExcNodeList=")

    def wait_for_end(self) -> str:
        """Wait until it has ended, and return how."""
        wait_for(lambda: self.field("JobState") in ENDED, f"the end of job {self.number}")
        return self.field("JobState")

    def losses(self) -> list[tuple[object, ...]]:
        """Return what must be the same in every run of this config."""
        names = ("step", "batch_digest", "loss", "instance_loss", "cluster_loss")
        return [tuple(record[name] for name in names) for record in steps(self.run)]
