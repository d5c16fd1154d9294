"""The resources that a job requests from Slurm, checked before anything is submitted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ccscale.errors import InputError

SAVE_SECONDS = 120
"""So long before its end a job is told to save and stop."""
DAY = 24 * 60
OWN_OPTION = {
    "nodes": "--nodes",
    "gpus-per-node": "--gpus-per-node",
    "ntasks": "--tasks-per-node",
    "ntasks-per-node": "--tasks-per-node",
    "cpus-per-task": "--cpus-per-task",
    "mem": "--mem",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "constraint": "--constraint",
    "array": "--sweep",
}
SET_HERE = ("output", "error", "open-mode", "requeue", "no-requeue")


@dataclass(frozen=True)
class Resources:
    """What each job gets."""

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int | None = None
    """By default one a GPU, or one if there are none."""
    cpus_per_task: int | None = None
    mem: str | None = None
    """Of a node, as Slurm writes it: 64G."""
    minutes: int | None = None
    """Time limit; by default a day under Slurm, none on this machine."""
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    extra: tuple[tuple[str, str | bool], ...] = ()
    """Other options of sbatch, without their dashes; True for one that takes no value."""

    @property
    def tasks(self) -> int:
        """Return the number of tasks on a node."""
        return self.tasks_per_node or self.gpus_per_node or 1

    @property
    def ranks(self) -> int:
        """Return the number of processes in all."""
        return self.nodes * self.tasks

    def parameters(self) -> dict[str, Any]:
        """Return them as submitit's `SlurmExecutor.update_parameters` takes them."""
        wanted: dict[str, Any] = {
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks,
            "gpus_per_node": self.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem": self.mem,
            "time": self.minutes or DAY,
            "partition": self.partition,
            "account": self.account,
            "constraint": self.constraint,
        }
        # When one task has ended, the others get ten minutes more, and do not wait for it forever.
        step = ["--wait=600"]
        if self.cpus_per_task is not None:  # srun does not take them over from sbatch, since Slurm 22.05
            step.append(f"--cpus-per-task={self.cpus_per_task}")
        return {key: value for key, value in wanted.items() if value is not None} | {
            "signal_delay_s": SAVE_SECONDS,
            "stderr_to_stdout": True,
            "wckey": None,  # submitit's own default is refused where these are checked
            "srun_args": step,
            "additional_parameters": {"requeue": True, **dict(self.extra)},
        }


def parse_extra(options: Sequence[str]) -> tuple[tuple[str, str | bool], ...]:
    """Read ``--slurm key=value`` (or ``key`` alone), which become lines of a script that a shell reads.

    Raises
    ------
    InputError
        If a key is none, or has an option of its own, or the value would end its line.
    """
    found: dict[str, str | bool] = {}
    for option in options:
        key, equals, value = option.partition("=")
        key = key.lstrip("-").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            raise InputError(
                f"--slurm {option!r} is not an sbatch option; write key=value, for example qos=long"
            )
        if key in OWN_OPTION:
            raise InputError(f"--slurm {key}: use {OWN_OPTION[key]} instead")
        if key in SET_HERE:
            raise InputError(f"--slurm {key}: ccscale sets this itself so that runs can resume; leave it out")
        found[key] = check_line(f"--slurm {key}", value) if equals else True
    return tuple(found.items())


def check_line(option: str, value: str) -> str:
    """Return a value that is to stand in a script's comment line, where a line break would end the comment.

    Raises
    ------
    InputError
        If it has control characters.
    """
    if not value or not value.isprintable():
        raise InputError(f"{option} is {value!r}; it must be one line that is not empty")
    return value


def parse_time(text: str) -> int:
    """Return a time limit in minutes, rounded up.

    Slurm's own forms are read: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and
    days-hours:minutes:seconds.

    Raises
    ------
    InputError
        If it is none of these, or no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is not None:
        days, *parts = match.groups()
        numbers = [int(part) for part in parts if part is not None]
        if days is not None or len(numbers) == 3:
            hours, minutes, seconds = [*numbers, 0, 0][:3]
        else:
            hours, minutes, seconds = 0, *[*numbers, 0][:2]
        total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        if total:
            return -(-total // 60)
    raise InputError(
        f"--time {text!r} is not a time; write minutes, such as 90, or 24:00:00, or 3-00:00:00 for days"
    )


def parse_memory(text: str) -> str:
    """Return an amount of memory as Slurm writes it: 64G for ``64G``, ``64GB``, ``64GiB``.

    Raises
    ------
    InputError
        If it is not an amount of memory.
    """
    match = re.fullmatch(r"(\d+)([KMGT])(?:i?B)?|0", text, re.IGNORECASE)
    if match is None:
        raise InputError(
            f"--mem {text!r} is not an amount of memory; write 64G, or 0 for all memory of a node"
        )
    return text if text == "0" else f"{match[1]}{match[2].upper()}"
