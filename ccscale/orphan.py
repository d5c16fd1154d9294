"""Stops ranks that are orphaned: the launcher that started them is gone.

torchrun ends at once on SIGUSR1, DeepSpeed's on SIGTERM, any of them on SIGKILL, and their ranks live on. Each sees
that its parent has changed and tells itself to stop, as SIGTERM would: what trains saves, what does not ends.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ccscale.rank_environment import RankEnvironment

SUPERVISOR = "CCSCALE_SUPERVISOR"
"""Holds the process that `ccscale launch --cluster local` has started this rank from."""
TORCHRUN, DEEPSPEED = "TORCHELASTIC_RUN_ID", "CROSS_SIZE"
"""Names that only these launchers give to their ranks."""
LOOK_SECONDS = 0.5
OTHERS_SECONDS = 4 * LOOK_SECONDS
"""The first rank of a machine says why it stops; the others are so much later, or stop with it."""


def launchers(environment: Mapping[str, str] = os.environ) -> list[int]:
    """Return this process's parent, that one's parent, ...: as far as they are launchers.

    A process that a shell or a batch system has started is nobody's: it may outlive them.
    """
    if SUPERVISOR in environment:  # known from before this process began, should it be gone already
        return [int(environment[SUPERVISOR])]
    if TORCHRUN in environment:
        return [os.getppid()]
    if DEEPSPEED in environment:  # the user's command, and on each node a process that starts the ranks
        return [os.getppid(), *_parent(os.getppid())]
    return []


def stop_when_orphaned() -> None:
    """Begin to watch over the launchers of this process, if it has any."""
    if expected := launchers():
        threading.Thread(target=_watch, args=(expected,), name="orphan", daemon=True).start()


def _watch(expected: list[int]) -> None:
    gone = any(map(_adopts, expected))  # one that had ended before this process came to look
    while not gone and _ancestors(len(expected)) == expected:
        time.sleep(LOOK_SECONDS)
    if RankEnvironment.read().local_rank > 0:
        time.sleep(OTHERS_SECONDS)
    else:
        with contextlib.suppress(OSError):  # who reads what is said may be gone with it
            os.write(2, b"the launcher of this process is gone: stopping, as on SIGTERM\n")
    os.kill(os.getpid(), signal.SIGTERM)


def _adopts(process: int) -> bool:
    """Return whether a process is one that gets the children of others that have ended, and no launcher.

    A container's first process may be a launcher, which runs in Python.
    """
    try:
        program = Path(f"/proc/{process}/cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return False  # it is gone, which is seen otherwise, or hidden
    name = os.path.basename(program)
    return name == b"systemd" or (process == 1 and not name.startswith(b"python"))


def _ancestors(count: int) -> list[int]:
    found = [os.getppid()]
    while len(found) < count and (parent := _parent(found[-1])):
        found += parent
    return found


def _parent(process: int) -> list[int]:
    """Return the parent of a process; nothing if it is gone or hidden."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return []
    return [int(stat.rpartition(")")[2].split()[1])]
