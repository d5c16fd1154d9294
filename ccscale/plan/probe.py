"""Measures a call: its duration, and the private memory of the process meanwhile.

Pages of memory-mapped files are not included, since the system reclaims them when memory is short (RssAnon, on
Linux).
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

WATCH_SECONDS = 0.05


class Cost(NamedTuple):
    """The measured cost of a call.

    Attributes
    ----------
    seconds
        From its begin to its end.
    bytes
        The most that the process holds for itself, the call's part and what was there before; 0 where the system
        does not tell.
    """

    seconds: float
    bytes: int


def measured(call: Callable[[], T]) -> tuple[T, Cost]:
    """Call a function; return its result and cost."""
    most, ended = [held()], threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            most[0] = max(most[0], held())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begun = time.perf_counter()
    try:
        result = call()
    finally:
        seconds = time.perf_counter() - begun
        ended.set()
        watcher.join()
    return result, Cost(seconds, max(most[0], held()))


def seconds_of(call: Callable[[], object], times: int = 3) -> float:
    """Return how long a call takes: the shortest of some, after one that may have to warm up."""
    return min([measured(call)[1].seconds for _ in range(times + 1)][1:])


def held() -> int:
    """Return the private memory of the process in bytes; 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
