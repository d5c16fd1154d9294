"""Reports loader processes that were killed by a signal, in a sentence, where a batch is awaited.

When a loader process dies, PyTorch raises an exception in the main thread, whatever that is doing: even in the
middle of a step, when other ranks wait for it and nothing can be saved. This module prevents that.
"""

import signal
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from ccscale.errors import Fault
from ccscale.threads import background

POLL_SECONDS = 0.2
END_SECONDS = 2.0
"""From what a process leaves undone to its end being seen: what it has sent may need it to be fetched."""
MEMORY = "give it more memory, or lower data.workers (--workers of evaluate, predict and report)"


def watch_workers(loader: "DataLoader[Any]") -> Generator[Any]:
    """Yield what a loader yields.

    Raises
    ------
    Fault
        If one of its processes is killed, or there is no memory for them.
    """
    if loader.num_workers == 0:
        yield from loader
        return
    iterator = _start(loader)
    processes: Sequence[BaseProcess] = iterator._workers
    end = object()
    while (item := _wait(background(lambda: next(iterator, end)), processes)) is not end:
        yield item


def _start(loader: "DataLoader[Any]") -> Any:
    """Begin the loader's processes, and leave the signal of their end to whoever has it."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    except OSError as error:
        raise Fault(
            f"cannot start {loader.num_workers} loader workers ({error.strerror or error}): {MEMORY}"
        ) from None
    finally:
        if is_main and before is not None:
            signal.signal(signal.SIGCHLD, before)


def _wait(coming: "Future[Any]", processes: Sequence[BaseProcess]) -> Any:
    """Wait for a result while all processes that may send it are alive."""
    while not wait([coming], POLL_SECONDS).done:
        _check(processes)
    error = coming.exception()
    if isinstance(error, MemoryError):
        raise Fault(f"out of memory in a loader worker: {MEMORY}") from None
    if isinstance(error, RuntimeError | OSError | EOFError):  # the first sign of it, perhaps
        end = time.monotonic() + END_SECONDS
        while all(process.is_alive() for process in processes) and time.monotonic() < end:
            time.sleep(POLL_SECONDS / 10)
        _check(processes)
    return coming.result()


def _check(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        code = process.exitcode
        if code is not None and code < 0:
            raise Fault(
                f"a loader worker (process {process.pid}, one of {len(processes)}) was killed by "
                f"{signal.Signals(-code).name}, {_likely_cause(-code)}"
            )
        if code:
            raise Fault(f"a loader worker (process {process.pid}) exited with code {code}")


def _likely_cause(number: int) -> str:
    if number == signal.SIGKILL:
        return f"as a system does that is out of memory: {MEMORY}"
    if number == signal.SIGBUS:
        return f"as where the shared memory (/dev/shm) is full: {MEMORY}"
    return "which is a fault of a library that decodes images, or of the machine: run the same command again"
