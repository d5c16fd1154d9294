"""Names of processes, from which others on the same running system can tell whether they are alive."""

import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def lives(name: Mapping[str, Any]) -> bool | None:
    """Return whether the process of a name lives; None where that cannot be seen from here."""
    own, process = own_system(), int(name.get("process") or 0)
    if not own["boot"] or any(name.get(key) != value for key, value in own.items()):
        return None
    try:
        return begin_of(process) == name.get("started")
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return None  # it is another user's, and hidden


def own_system() -> dict[str, str]:
    """Return what tells one running kernel, and one numbering of processes in it, from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # a sandbox may hide it
        boot = ""
    return {"boot": boot, "processes": os.readlink("/proc/self/ns/pid")}


def own_name() -> dict[str, Any]:
    """Return what tells this process from others."""
    return {
        "host": socket.gethostname(),
        **own_system(),
        "process": os.getpid(),
        "started": begin_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "command": shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]),
        "begun": time.time(),
    }


def begin_of(process: int) -> str | None:
    """Return when a process began, in the kernel's ticks; None for one that has ended and is not yet waited for."""
    fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
