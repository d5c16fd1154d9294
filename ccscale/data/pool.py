"""Runs a function over tasks in processes, counting units of work across them and stopping cleanly.

Processes are spawned, not forked: the calling program may have threads, and a fork would copy their locks.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from typing import Any, TypeVar

from ccscale.errors import InputError
from ccscale.progress import Meter

Task = TypeVar("Task")
Result = TypeVar("Result")
Tick = Callable[[], None]

POLL_SECONDS = 0.2


def run(
    function: Callable[[Task, Tick], Result], tasks: Sequence[Task], meter: Meter, workers: int | None = None
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

    Raises
    ------
    InputError
        If `workers` is below 1.
    Exception
        The first that a task raised; the other tasks are stopped before.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: give at least 1")
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        return [function(task, meter.advance) for task in tasks]

    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(counter, stop)) as pool:
        futures = [pool.submit(_call, function, task) for task in tasks]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, POLL_SECONDS, FIRST_EXCEPTION)
                meter.update(counter.value)
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)  # waits for the tasks that run, so that they can tidy up
            raise
    return [future.result() for future in futures]


# Of a worker process; set once by `_start`.
_tick: Tick


def _start(counter: Any, stop: Any) -> None:
    global _tick

    def tick() -> None:
        if stop.is_set():
            raise InterruptedError("another task failed")
        with counter.get_lock():
            counter.value += 1

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
