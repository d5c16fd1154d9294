"""The program of a job: one rank of a run, which stops after a step when asked to, and has its job requeued.

submitit calls `Training` on every rank, and answers its signal (SIGUSR2) by calling `checkpoint` on rank 0, inside
the signal's handler, where no collective call can be made. So the training loop takes the signals for its length:
it notes them, the ranks agree at a step's end, save and return. Only then is submitit's own handler called, by the
signal raised anew, to put the job back into the queue.
"""

import os
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission

from ccscale.errors import Fault, InputError
from ccscale.exit_codes import STOPPED
from ccscale.process_exit import ProcessExit

MOST_RESTARTS = 50  # after a lost rank; train.sbatch has the same number


class Training:
    """Trains a run, or continues with it.

    Parameters
    ----------
    settings
        The whole config: what was checked is what will be trained, whatever becomes of the file.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def __call__(self) -> dict[str, Any]:
        """Train on this rank; return the run's folder, the step that was reached, and whether it is finished."""
        end = ProcessExit()
        job = submitit.JobEnvironment()
        _share_cores(job)
        try:
            outcome = self._train(job)
        except (InputError, Fault) as error:
            if error.teller in (None, job.global_rank):
                print(f"error: {error}", file=sys.stderr)
            end.code = error.exit_code
            raise SystemExit(end.code) from None  # a fault of the run, not of submitit: no traceback
        if not outcome.finished and job.global_rank == 0:
            self._stop(job, end)
        end.code = 0
        # The other ranks stop well: what ends badly could have Slurm kill rank 0 before it has requeued the job.
        return {"run": self.settings["run"], "step": outcome.step, "finished": outcome.finished}

    def _train(self, job: submitit.JobEnvironment) -> Any:
        from ccscale.config.file import parse_config
        from ccscale.train.train import train_run

        return train_run(parse_config(self.settings), on_lost=partial(_requeue_without_a_rank, job))

    def _stop(self, job: submitit.JobEnvironment, end: ProcessExit) -> None:
        """End rank 0 after it has saved, with the job in the queue again unless it was cancelled."""
        try:
            if _is_to_go_on(job):
                signal.raise_signal(getattr(signal, f"SIG{job.USR_SIG}"))  # requeues, then SystemExit
        except SystemExit as exit:
            end.code = int(exit.code or 0) % 256
            raise
        end.code = STOPPED
        raise SystemExit(STOPPED)

    def checkpoint(self) -> DelayedSubmission:
        """Return what the job's next life runs, as submitit asks: the same, from the newest checkpoint."""
        return DelayedSubmission(Training(self.settings))


def _share_cores(job: submitit.JobEnvironment) -> None:
    """Give torch's operations on the CPU this rank's part of the cores."""
    tasks = job.num_tasks // job.num_nodes
    cores = os.environ.get("SLURM_CPUS_PER_TASK") or max(1, len(os.sched_getaffinity(0)) // tasks)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _requeue_without_a_rank(job: submitit.JobEnvironment) -> None:
    """Have Slurm start the job anew, on nodes that it chooses, when a rank is lost; not forever."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    # Rank 0 may be the one that is lost; a second request finds the job in the queue and does no harm.
    if job.global_rank < 2 and restarts < MOST_RESTARTS and _is_to_go_on(job):
        subprocess.run(["scontrol", "requeue", job.job_id], capture_output=True)


def _is_to_go_on(job: submitit.JobEnvironment) -> bool:
    """Return whether the job is to be requeued: it is still called running, so nobody cancelled it."""
    state = subprocess.run(
        ["squeue", "--noheader", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}"],
        capture_output=True,
        text=True,
    )
    return state.stdout.strip() == "RUNNING"
