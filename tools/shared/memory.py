"""The resident memory of this process, from what the system says of it."""

import re
from pathlib import Path

MIB = 2**20


def resident() -> int:
    """Return the bytes that it has in memory now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Count the most memory that it has had from here: it may have had more before."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the most bytes that it has had in memory since `forget_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]
