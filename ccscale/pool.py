"""Runs a function over tasks in processes, counting units of work across them and stopping cleanly.

Processes are spawned, not forked: the calling program may have threads, and a fork would copy their locks.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import reduction
from typing import Any, Protocol, TypeVar

from ccscale.errors import Fault, InputError
from ccscale.progress import Meter

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_SECONDS = 0.2


class Tick(Protocol):
    """What a task calls as it goes on."""

    def __call__(self, units: int = 1) -> None:
        """Count units of work that are done."""


def check_workers(workers: int | None) -> None:
    """Raise InputError for a number of processes that cannot be."""
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: give at least 1")


def run(
    function: Callable[[Task, Tick], Result],
    tasks: Sequence[Task],
    meter: Meter,
    workers: int | None = None,
    hold: int | None = None,
) -> list[Result]:
    """Return ``[function(task, tick) for task in tasks]``, worked out in up to `workers` processes.

    Parameters
    ----------
    function
        Importable by name, like its tasks and results picklable. It calls ``tick()`` for each unit done; where
        the whole run is ending because of an error elsewhere, that call raises.
    tasks
        One per call of `function`.
    meter
        Shows the units.
    workers
        By default one per core that this process may use. With 1, all is done in this process.
    hold
        A file descriptor that the processes keep open: a lock on it lasts until the last of them has ended, also
        where this process is killed.

    Raises
    ------
    InputError
        If `workers` is below 1.
    Fault
        If a process was killed from outside, as a system out of memory does.
    Exception
        The first that a task raised; the other tasks are stopped before.
    """
    check_workers(workers)
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        return [function(task, meter.advance) for task in tasks]

    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    counted = 0
    start = (counter, stop, None if hold is None else _Held(hold))
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=start) as pool:
        futures = [pool.submit(_call, function, task) for task in tasks]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, POLL_SECONDS, FIRST_EXCEPTION)
                now = counter.value
                meter.advance(now - counted)
                counted = now
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise Fault(
                "a worker process was killed, perhaps out of memory: run the same command again with "
                f"fewer than {workers} --workers"
            ) from None
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)  # waits for the tasks that run, so that they can tidy up
            raise
    return [future.result() for future in futures]


class _Held:
    """An open file on its way into a process that is being spawned."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Callable[[Any], "_Held"], tuple[Any]]:
        return _receive, (reduction.DupFd(self.descriptor),)


def _receive(sent: Any) -> _Held:
    return _Held(sent.detach())


# Of a worker process; set once by `_start`.
_tick: Tick


def _start(counter: Any, stop: Any, held: _Held | None) -> None:
    """Set up a worker process; the descriptor in `held` is open from now on to its end."""
    global _tick

    def tick(units: int = 1) -> None:
        if stop.is_set():
            raise InterruptedError("another task failed")
        with counter.get_lock():
            counter.value += units

    _tick = tick
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a Ctrl-C reaches the parent too, which then stops us in order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: a worker waiting for tasks would never notice."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[[Task, Tick], Result], task: Task) -> Result:
    return function(task, _tick)
