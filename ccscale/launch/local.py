"""``ccscale launch --cluster local``: trains a run on this machine, one process per rank, in the foreground.

The supervisor hears the signals and passes them on: its ranks are in sessions of their own, where a Ctrl-C does not
reach them. When a rank is killed it ends the others, who could only wait for it; when it is killed itself, the
ranks notice (`orphan.py`), save and stop. What rank 0 says, and errors of all, go to standard error.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ccscale.config import Config
from ccscale.exit_codes import FAULT, LOST, MISTAKE, STOPPED
from ccscale.launch.resources import Resources
from ccscale.orphan import DEEPSPEED, SUPERVISOR, TORCHRUN
from ccscale.preempt import StopRequest
from ccscale.progress import say
from ccscale.rank_environment import LAUNCHER_VARIABLES
from ccscale.threads import background

POLL_SECONDS = 0.1
LEAVE_SECONDS = 120.0
"""When a rank has ended badly, so long after it the others have, too: each knows by then (`train.rank_timeout`)."""
READ_SECONDS = 10.0
"""What a rank has printed is waited for so long: loader workers that end after it hold the pipe."""
ON_REQUEST, AT_THE_LIMIT = signal.SIGTERM, signal.SIGUSR1
"""What ranks are told. Not SIGINT: one that is still loading would end with a traceback."""


@dataclass(frozen=True)
class Ended:
    """How a run on this machine ended, or one life of it."""

    code: int
    """As of ``ccscale train``."""
    step: int | None
    """Steps done; None where no rank came to tell."""


class Ranks:
    """The processes of one life of a run; as a context, it leaves none."""

    def __init__(self, command: Sequence[str], count: int, threads: int) -> None:
        self.told: signal.Signals | None = None
        self._codes: list[int | None] = [None] * count
        self._failed: float | None = None
        common = shared_environment(count, threads)
        self._processes = [
            subprocess.Popen(
                command,
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if rank == 0 else 2,  # results are the first rank's
                start_new_session=True,
            )
            for rank in range(count)
        ]
        self._results: Future[bytes] = background(self._processes[0].stdout.read)  # type: ignore[union-attr]

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to all ranks, once."""
        if self.told is None:
            self.told = number
            for process in self._processes:
                process.send_signal(number)  # nothing where it has ended

    def kill(self) -> None:
        """End all that are left, with their loader workers."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def are_running(self) -> bool:
        """Return whether any rank runs; end those that wait for one that has ended badly."""
        killed = False
        for rank, process in enumerate(self._processes):
            if self._codes[rank] is None and (code := process.poll()) is not None:
                self._codes[rank] = code
                self._failed = self._failed or (time.monotonic() if code else None)
                if code < 0 and -code != self.told:
                    say(f"error: rank {rank} was killed by {signal.Signals(-code).name}{_why(code)}")
                    killed = True
        if killed or (self._failed is not None and time.monotonic() - self._failed > LEAVE_SECONDS):
            self.kill()
            return False
        return None in self._codes

    def code(self) -> int:
        """Return what the codes of those that have ended come to: the gravest."""
        return gravest([self._meaning(code) for code in self._codes if code is not None])

    def step(self) -> int | None:
        """Return the steps that the first rank has told of at its end."""
        try:
            step = json.loads(self._results.result(READ_SECONDS).splitlines()[-1])["step"]
        except (TimeoutError, ValueError, LookupError, TypeError):
            return None
        return step if isinstance(step, int) else None

    def _meaning(self, code: int) -> int:
        if code < 0:  # by a signal; by ours it was before it could hear it: there was nothing to save
            return STOPPED if -code == self.told else LOST
        return code if code in (0, MISTAKE, LOST, STOPPED) else FAULT


def train_here(
    config: Config, count: int, request: StopRequest, minutes: float | None = None, threads: int | None = None
) -> Ended:
    """Train a run on this machine, or continue with it.

    Parameters
    ----------
    config
        What was checked is what will be trained, whatever becomes of its file.
    count
        Number of ranks.
    request
        Passed on to the ranks: they save and stop.
    minutes
        After so long, the ranks save and stop, and new ones go on, as a job under Slurm does.
    threads
        Of each rank; by default the cores are shared out.
    """
    if threads is None:
        threads = max(1, len(os.sched_getaffinity(0)) // count)
    with tempfile.TemporaryDirectory(prefix="ccscale-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        ranks, before = command(path, config), None
        while True:
            end = None if minutes is None else time.monotonic() + 60 * minutes
            with Ranks(ranks, count, threads) as life:
                while life.are_running():
                    if request:
                        life.tell(ON_REQUEST)
                    elif end is not None and time.monotonic() >= end:
                        life.tell(AT_THE_LIMIT)
                    time.sleep(POLL_SECONDS)
                ended = Ended(life.code(), life.step())
            if life.told != AT_THE_LIMIT or request or ended.code != STOPPED:
                return ended
            if ended.step is None or ended.step == before:
                say(
                    f"error: no step was completed within the time limit of {minutes:g} minutes: raise it "
                    "(--time)"
                )
                return ended
            say(f"time limit reached at step {ended.step}: the run continues in new processes")
            before = ended.step


def train_all_here(
    configs: Sequence[Config], count: int, request: StopRequest, resources: Resources
) -> Iterator[tuple[Config, Ended]]:
    """Train runs one after the other, also after one that has failed; a request ends it."""
    for number, config in enumerate(configs, start=1):
        if len(configs) > 1:
            say(f"run {number} of {len(configs)}: {config.run}")
        yield config, train_here(config, count, request, resources.minutes, resources.cpus_per_task)
        if request:
            return


def command(path: Path, config: Config) -> list[str]:
    """Return what a rank runs."""
    return [sys.executable, "-m", "ccscale", "train", str(path), f"run={config.run_folder}", "--json"]


def shared_environment(count: int, threads: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of all ranks: torchrun's names; nothing of a launcher that this process runs under."""
    others = {*LAUNCHER_VARIABLES, TORCHRUN, DEEPSPEED}
    return {
        "OMP_NUM_THREADS": str(threads),
        **{name: value for name, value in given.items() if name not in others},
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        SUPERVISOR: str(os.getpid()),
    }


def count_gpus() -> int:
    """Return how many GPUs this process may use."""
    import torch  # it takes its time

    return torch.cuda.device_count()


def gravest(codes: Sequence[int]) -> int:
    """Return the exit code for several runs: 0 if all have ended well."""
    return next((code for code in (FAULT, MISTAKE, LOST, STOPPED) if code in codes), 0)


def as_json(config: Config, ended: Ended) -> dict[str, Any]:
    """Return what ``--json`` tells of a run."""
    return {"run": str(config.run_folder), "code": ended.code, "step": ended.step}


def _why(code: int) -> str:
    return ": the system ends processes so when it is short of memory" if -code == signal.SIGKILL else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
