"""One start of a command as real processes, one a rank, that can be killed.

Each rank is the leader of a process group, which its loader workers are in. `spawn` starts Python anew, as a
launcher does. `fork` copies a process that has imported all that training needs: a life is then shorter by the
seconds of the imports, and all else is the same.
"""

import atexit
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Protocol
from unittest import mock

IMPORTS = (
    "uncollected",
    "ccscale.cli.train",
    "ccscale.evaluate.evaluate",
    "ccscale.evaluate.predict",
    "ccscale.train.train",
    "deepspeed.checkpoint.ds_to_universal",
    "deepspeed.module_inject.auto_ep_layer",  # by its engine, as the next
    "deepspeed.ops.op_builder.all_ops",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # with torch's compiler
    "hypothesis",  # of the module of a test that a rank's function is in, and pytest
    "pyarrow.dataset",
    "pytest",
    "sklearn.cluster",  # where clusters are measured
    "timm",
    "torch.utils.tensorboard",
    "settled",
)


class Process(Protocol):
    """What a life needs of a process."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""


Start = Callable[[dict[str, str], Path], Process]
"""Starts one rank, given what its environment has besides this process's, and the file for its standard error."""


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
        self._said = tempfile.NamedTemporaryFile()  # noqa: SIM115 (there as long as this object)
        self.begin = time.monotonic()
        port = str(free_port())
        self._processes = [
            start(_place(rank, ranks, port) if ranks > 1 else {}, Path(self._said.name))
            for rank in range(ranks)
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

    def codes(self) -> list[int | None]:
        """Return each rank's code, None while it runs."""
        return [process.poll() for process in self._processes]

    def code(self) -> int | None:
        """Return the code of a rank that failed, else 0 once all have ended; None before."""
        codes = self.codes()
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
        return Path(self._said.name).read_text(errors="replace")

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

    def start(environment: dict[str, str], said: Path) -> Process:
        environment = os.environ | environment
        with open(said, "ab") as file:
            return Popen(command, start_new_session=True, stdout=DEVNULL, stderr=file, env=environment)

    return start


def fork(
    arguments: Sequence[str], before: Callable[[], object] | None = None, out: Path | None = None
) -> Start:
    """Return what starts ``ccscale`` with `arguments` in a copy of the process that `server` gives.

    `before`, which must be importable, is called first there: it may change what the command finds. What it prints
    on standard output is appended to the file `out`, or lost.
    """

    def start(environment: dict[str, str], said: Path) -> Process:
        process = server().Process(
            target=_become, args=(arguments, dict(os.environ) | environment, said, before, out)
        )
        process.start()
        return Forked(process)

    return start


def server() -> ForkServerContext:
    """Return what starts processes as copies of one that has made `IMPORTS`, and in which no Python thread runs.

    It is started at first use, with the environment of that time: each copy is given its own.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"  # as `process_group` sets it before DeepSpeed is imported
    multiprocessing.set_forkserver_preload([*IMPORTS])
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # where it finds what is beside this module
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def take_environment(environment: dict[str, str]) -> None:
    """Make a copy's environment its own, and what is forked from it a plain fork, as in a process of its own."""
    os.environ.clear()
    os.environ |= environment
    multiprocessing.set_start_method("fork", force=True)


class Forked:
    """A copy of the server."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode


def _become(
    arguments: Sequence[str],
    environment: dict[str, str],
    said: Path,
    before: Callable[[], object] | None,
    out: Path | None,
) -> None:
    """Go on as the command's process, and never return."""
    try:
        os.setsid()
        take_environment(environment)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        for number, path in ((1, out or os.devnull), (2, said)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        sys.argv = ["ccscale", *arguments]
        if before is not None:
            before()
        from ccscale.cli import entry

        entry()
        atexit._run_exitfuncs()  # the command leaves in the handler that it registered last
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def free_port() -> int:
    """Return the number of a port that nobody listens on, and that no connection is given by itself.

    Those that the system gives (from 32768 on, or 1024 at some places) may be another's before it is listened on.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(10000, 60000) if not low <= port <= high] or range(low, high)
    while True:
        port = random.SystemRandom().choice(ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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
