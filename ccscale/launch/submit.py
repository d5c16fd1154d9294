"""Submits runs as jobs, several as a job array.

What submitit needs and writes lies beside the run's folder, which holds nothing that is not the run's own::

    RUN.jobs/123_0_log.out    what rank 0 of job 123 says (1: rank 1, ...); of an array's task 7: 123_7_0_log.out
    RUN.jobs/123_submission.sh  123_submitted.pkl  123_0_result.pkl
"""

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from ccscale.config import Config
from ccscale.errors import InputError
from ccscale.launch.job import Training
from ccscale.launch.resources import Resources, check_line
from ccscale.rank_environment import LAUNCHER_VARIABLES


@dataclass(frozen=True)
class Submitted:
    """A job, and the run that it trains."""

    job: submitit.Job[dict[str, Any]]
    run: Path

    @property
    def log(self) -> Path:
        """Return the file with what rank 0 says."""
        return self.job.task(0).paths.stdout


def submit(configs: Sequence[Config], folder: Path, resources: Resources) -> list[Submitted]:
    """Submit a job for each config, all as one array.

    Parameters
    ----------
    configs
        Checked configs with different run folders.
    folder
        The run's folder, or that above the runs of a sweep.
    resources
        What each job gets.

    Raises
    ------
    InputError
        If Slurm is not there, or refuses the job; nothing is left behind.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "sbatch is not available here: run this on a machine that has it, or use --cluster local or "
            "--dry-run"
        )
    executor = _executor(submitit.SlurmExecutor, folder, resources)
    jobs = _jobs_folder(folder)
    before = set(jobs.iterdir()) if jobs.exists() else set()
    missing = [folder for folder in (jobs, *jobs.parents) if not folder.exists()]
    said = io.StringIO()  # submitit prints what sbatch complains about, and raises it too
    with _submission_environment():
        try:
            with contextlib.redirect_stderr(said):
                found = executor.submit_array(
                    [Training(config.model_dump(mode="json")) for config in configs]
                )
        except FailedJobError as error:
            for path in set(jobs.iterdir()) - before:
                path.unlink()
            for path in missing:
                path.rmdir()
            told = re.findall(r"^sbatch: (?:error: |fatal: )?(.+)$", str(error), re.MULTILINE)
            raise InputError(f"sbatch refuses the job: {told[-1] if told else error}") from None
    return [Submitted(job, config.run_folder) for job, config in zip(found, configs, strict=True)]


def script(count: int, folder: Path, resources: Resources) -> str:
    """Return the script that `submit` would give to sbatch for `count` runs."""
    executor = _executor(_ScriptWriter, folder, resources)
    if count > 1:
        executor.parameters["map_count"] = count
    return executor._make_submission_file_text(executor._submitit_command_str, "")


class _ScriptWriter(submitit.SlurmExecutor):
    """Writes scripts where there is no Slurm, too."""

    @classmethod
    def affinity(cls) -> int:
        """Return submitit's number for an executor that is there."""
        return 2


def _executor(kind: type[submitit.SlurmExecutor], folder: Path, resources: Resources) -> Any:
    # Every preemption and every end of the time counts as a timeout where submitit is not sure: never too many.
    slurm = kind(str(_jobs_folder(folder)), max_num_timeout=1_000_000)
    # A name has no need of what a shell or Slurm's patterns could take for something else.
    slurm.update_parameters(
        job_name=f"ccscale-{re.sub(r'[^A-Za-z0-9._-]', '_', folder.name)}", **resources.parameters()
    )
    return slurm


def _jobs_folder(folder: Path) -> Path:
    """Return the folder for submitit's files; its path stands in the script and in patterns of Slurm's."""
    path = folder.absolute()
    check_line("run", str(path))
    if "%" in str(path):
        raise InputError(f"run is {folder}: Slurm replaces % in file names; choose a name without it")
    return path.with_name(f"{path.name}.jobs")


@contextlib.contextmanager
def _submission_environment() -> Iterator[None]:
    """Hide the variables of a job or a launcher that this process itself may run under: jobs inherit them.

    SLURM_CONF stays: it names the cluster, as the user's SBATCH_ variables are meant for this.
    """
    names = {name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"))}
    names = {*names, *LAUNCHER_VARIABLES} - {"SLURM_CONF"}
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ |= hidden
