"""Who holds a lock, and whether that process lives."""

import hashlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccscale.progress import duration

HELD_HERE: set[str] = set()
"""Tokens of the locks that this process holds, in whichever thread."""


@dataclass(frozen=True)
class Holder:
    """Who has made a lock, as it was read."""

    raw: bytes
    name: Mapping[str, Any]
    """What `own_name` says of its process; empty where the lock was cut off while it was made."""

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Read a lock; None if there is none. Opening it asks the server of a network's files anew."""
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            name = json.loads(raw.partition(b"\n")[0])
            return cls(raw, name if isinstance(name, dict) else {})
        except ValueError:
            return cls(raw, {})

    @property
    def token(self) -> str:
        """What this lock differs by from all others."""
        return str(self.name.get("token") or hashlib.sha256(self.raw).hexdigest()[:32])

    def __str__(self) -> str:
        if not self.name:
            return "a process that did not come to say its name"
        command, process, host, job = (self.name.get(key) for key in ("command", "process", "host", "job"))
        age = duration(max(time.time() - float(self.name.get("begun") or time.time()), 0))
        return f"`{command}` (process {process} on {host}{f', job {job}' if job else ''}, for {age})"

    def is_alive(self) -> bool | None:
        """Tell whether its process is there; None where that cannot be seen from here."""
        own = own_system()
        if not own["boot"] or any(self.name.get(key) != value for key, value in own.items()):
            return None
        process = int(self.name.get("process") or 0)
        if process == os.getpid():  # one that could not be given back, on a disk that was full, is nobody's
            return self.token in HELD_HERE
        try:
            return begin_of(process) == self.name.get("started")
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
    """Return what a lock says of this process."""
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
