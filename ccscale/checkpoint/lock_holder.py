"""The holder of a lock, and whether that process is alive."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccscale.process_name import lives
from ccscale.progress import duration

HELD_HERE: set[str] = set()
"""Tokens of the locks that this process holds, in whichever thread."""


@dataclass(frozen=True)
class LockHolder:
    """Who has made a lock, as it was read."""

    raw: bytes
    name: Mapping[str, Any]
    """What `own_name` says of its process; empty where the lock was cut off while it was made."""

    @classmethod
    def read(cls, path: Path) -> "LockHolder | None":
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
        """A value that is unique to this lock."""
        return str(self.name.get("token") or hashlib.sha256(self.raw).hexdigest()[:32])

    def __str__(self) -> str:
        if not self.name:
            return "a process that did not come to say its name"
        command, process, host, job = (self.name.get(key) for key in ("command", "process", "host", "job"))
        age = duration(max(time.time() - float(self.name.get("begun") or time.time()), 0))
        return f"`{command}` (process {process} on {host}{f', job {job}' if job else ''}, for {age})"

    def is_alive(self) -> bool | None:
        """Return whether its process is alive; None if that cannot be determined from here."""
        found = lives(self.name)
        if found and self.name["process"] == os.getpid():
            return self.token in HELD_HERE  # one that could not be given back, on a full disk, is nobody's
        return found
