"""One start of a command as real processes, one a rank, that can be killed.

Each rank is the leader of a process group, which its loader workers are in. `spawn` starts Python anew, as a
launcher does. `fork` forks this process once it has imported all that training needs: a life is then shorter by the
seconds of the imports, and all else is the same.
"""

import atexit
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from subprocess import DEVNULL, Popen
from typing import IO, Protocol

IMPORTS = (
    "ccscale.data.commands",
    "ccscale.train.loop",
    "deepspeed.checkpoint.ds_to_universal",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # with torch's compiler
    "timm",
)


class Process(Protocol):
    """What a life needs of a process."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""


Start = Callable[[dict[str, str], IO[bytes]], Process]
"""Starts one rank, given its environment and the file for its standard error."""


class Life:
    """The processes of one start.

    Parameters
    ----------
    start
        From `spawn` or `fork`.
    ranks
        How many of them; each gets the environment that torchrun gives.
    """

    def __init__(self, start: Start, ranks: int = 1) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as this object)
        self.begin = time.monotonic()
        port = str(free_port())
        self._processes = [
            start(_place(rank, ranks, port) if ranks > 1 else {}, self._said) for rank in range(ranks)
        ]
        self.groups = [process.pid for process in self._processes]

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.begin

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self._processes)

    def code(self) -> int | None:
        """Return the code of a rank that failed, else 0 once all have ended; None before."""
        codes = [process.poll() for process in self._processes]
        return next((code for code in codes if code), None if None in codes else 0)

    def wait(self, seconds: float) -> bool:
        """Wait for all ranks to end, so long at most; tell whether they have."""
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in self._processes):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def kill_group(self, ranks: Iterable[int] | None = None) -> None:
        """Kill ranks (or all) with their workers, as a machine does that loses its power."""
        for rank in range(self.ranks) if ranks is None else ranks:
            # One that has ended may have left workers, and the number is its group's as long as they live.
            try:
                os.killpg(self.groups[rank], signal.SIGKILL)
            except ProcessLookupError:
                self.kill_process(rank)  # a copy that has not come to lead its group yet, or nothing is left

    def kill_process(self, rank: int) -> None:
        """Kill a rank alone, as a system does that is short of memory; its workers must end by themselves."""
        if self._processes[rank].poll() is None:
            os.kill(self._processes[rank].pid, signal.SIGKILL)

    def said(self) -> str:
        """Return what all ranks have written to standard error."""
        return os.pread(self._said.fileno(), os.fstat(self._said.fileno()).st_size, 0).decode(
            errors="replace"
        )

    def finish(self, limit: float) -> str:
        """Wait for a good end, and return what was said.

        Raises
        ------
        RuntimeError
            With that, if a rank fails, or not all have ended after `limit` seconds; then none is left.
        """
        while (code := self.code()) is None and self.seconds < limit:
            time.sleep(0.005)
        if code != 0:
            if code is not None:
                self.wait(5)  # what the others have to say may be the reason
            self.kill_group()
            self.wait(limit)
            how = f"ended with code {code}" if code is not None else f"did not end within {limit:.0f} s"
            raise RuntimeError(f"the command {how}: {self.said()}")
        return self.said()


def spawn(command: Sequence[str]) -> Start:
    """Return what starts a command line."""

    def start(environment: dict[str, str], said: IO[bytes]) -> Process:
        environment = os.environ | environment
        return Popen(command, start_new_session=True, stdout=DEVNULL, stderr=said, env=environment)

    return start


def fork(arguments: Sequence[str]) -> Start:
    """Return what starts ``ccscale`` with `arguments` in a copy of this process, which must have no threads."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # as `dist.process_group` sets it before DeepSpeed is imported
    for name in IMPORTS:
        import_module(name)

    def start(environment: dict[str, str], said: IO[bytes]) -> Process:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _become(arguments, environment, said)
        return Forked(pid)

    return start


class Forked:
    """A copy of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def _become(arguments: Sequence[str], environment: dict[str, str], said: IO[bytes]) -> None:
    """Go on as the command's process, and never return."""
    try:
        os.setsid()
        os.environ |= environment
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(said.fileno(), 2)
        sys.argv = ["ccscale", *arguments]
        from ccscale.cli import entry

        entry()
        atexit._run_exitfuncs()  # the command leaves in the handler that it registered last
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def free_port() -> int:
    """Return the number of a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_alive(group: int) -> bool:
    """Tell whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _place(rank: int, ranks: int, port: str) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
