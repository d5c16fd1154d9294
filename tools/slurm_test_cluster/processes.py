"""Processes that outlive the command that started them, and are ended by no other mark than their own.

A number alone may be another process's by the time that it is used: the time of its start, in the clock ticks that
/proc tells, belongs to it.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, by its number and the time of its start."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process that has this number now; None if there is none, or only a zombie."""
        try:
            # The command's name may hold anything, parentheses and spaces too.
            stat = _read(f"/proc/{pid}/stat").decode(errors="replace")
            state, *fields = stat.rpartition(")")[2].split()
        except ValueError:
            return None
        return None if state == "Z" else cls(pid, int(fields[18]))

    @property
    def name(self) -> str:
        """Return the name of the program; "" if the process has ended."""
        return _read(f"/proc/{self.pid}/comm").decode().strip()

    @property
    def parent(self) -> "Process | None":
        """Return the process that started it, if that is still there."""
        fields = _read(f"/proc/{self.pid}/stat").decode(errors="replace").rpartition(")")[2].split()
        return Process.of(int(fields[1])) if fields else None

    @property
    def running(self) -> bool:
        """Tell whether it has not ended."""
        return Process.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> Process:
    """Start a daemon in a session of its own, its output appended to `log`."""
    with open(log, "ab") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    return Process.of(child.pid) or Process(child.pid, 0)


def end(processes: Iterable[Process], patience: float = 10.0) -> None:
    """Ask processes to end, and kill those that are still there after `patience` seconds."""
    processes = list(processes)
    for process in processes:
        process.signal(signal.SIGTERM)
    if not wait_until(lambda: not any(process.running for process in processes), patience):
        for process in processes:
            process.signal(signal.SIGKILL)
        wait_until(lambda: not any(process.running for process in processes), patience)


def wait_until(reached: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition and return whether it was reached in time."""
    limit = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def with_environment(names: dict[str, str]) -> list[Process]:
    """Return all processes that were started with these environment variables."""
    wanted = {f"{name}={value}".encode() for name, value in names.items()}
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found = [pid for pid in numbers if wanted <= set(_read(f"/proc/{pid}/environ").split(b"\0"))]
    return [process for process in map(Process.of, found) if process is not None]


def _read(path: str) -> bytes:
    """Return what a file of /proc holds; nothing if the process has gone."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
