"""Follows the logs of jobs: the output of their first ranks, across requeues, until all have ended."""

import subprocess
import sys
import time
from collections.abc import Sequence

from ccscale.launch.submit import Submitted

SECONDS = 1.0
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "GONE"}


def show_logs(jobs: Sequence[Submitted]) -> bool:
    """Copy the jobs' logs to standard error until they have ended.

    Parameters
    ----------
    jobs
        Of `submit`.

    Returns
    -------
    bool
        Whether all runs are finished.
    """
    read = dict.fromkeys(range(len(jobs)), 0)
    going_on = True
    while going_on:
        going_on = not _ended(jobs)
        for number, job in enumerate(jobs):
            if job.log.exists():
                with open(job.log, "rb") as file:
                    file.seek(read[number])
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1] if going_on else text
                read[number] += len(whole)
                name = f"{job.job.job_id}: " if len(jobs) > 1 else ""
                for line in whole.decode(errors="replace").splitlines():
                    print(f"{name}{line}", file=sys.stderr, flush=True)
        if going_on:
            time.sleep(SECONDS)
    return all(_finished(job) for job in jobs)


def _ended(jobs: Sequence[Submitted]) -> bool:
    """Return whether no job runs or waits to run."""
    states = _states([job.job.job_id for job in jobs])
    return all(state in ENDED for state in states)


def _states(numbers: Sequence[str]) -> list[str]:
    """Return Slurm's words for the jobs' states, without its database of past jobs, which not every site has."""
    found = subprocess.run(
        ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={','.join(numbers)}"],
        capture_output=True,
        text=True,
    )
    if found.returncode and "Invalid job id" not in found.stderr:  # the controller is away for a moment
        return ["UNKNOWN"]
    known = dict(line.split() for line in found.stdout.splitlines())
    return [known.get(number, "GONE") for number in numbers]


def _finished(job: Submitted) -> bool:
    """Return whether rank 0 has left word that the run is finished."""
    first = job.job.task(0)
    return first.paths.result_pickle.exists() and first.exception() is None and first.result()["finished"]
