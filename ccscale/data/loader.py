"""Loader processes: started once; their errors are raised where a batch is awaited."""

import atexit
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
import webdataset as wds
from torch.utils.data import DataLoader, get_worker_info

from ccscale.data.images.decode import silence_pillow
from ccscale.data.remote.retry import Closing
from ccscale.data.worker_watch import watch_workers
from ccscale.errors import Fault, InputError
from ccscale.heap import give_back

MAX_WORKERS = 32  # a GPU takes a small network's images as fast as twenty cores decode them
_begun: WeakSet[Closing] = WeakSet()
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def default_workers(local_world: int = 1) -> int:
    """Return the number of loader processes for a rank that shares its cores with `local_world` - 1 others."""
    cores = len(os.sched_getaffinity(0)) // local_world
    return min(MAX_WORKERS, max(1, cores - 1))


def load(pipeline: wds.DataPipeline, closing: Closing, workers: int, prefetch: int) -> Iterator[Any]:
    """Run a pipeline in worker processes; yield its results, and raise its errors."""
    loader = DataLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=partial(_start, closing),
        # Python 3.14 would begin each anew, and import everything: ten seconds, and hundreds of MB a worker.
        multiprocessing_context="fork" if workers else None,
    )
    _begun.add(closing)
    items = watch_workers(loader)
    try:
        for item in items:
            if isinstance(item, InputError | Fault):
                raise item
            yield item
    finally:
        closing.set()  # nobody waits for what is still being read
        items.close()


@atexit.register
def _close() -> None:
    """Shut down abandoned workers at exit.

    By multiprocessing, whose handler is older, so it is called after this one.
    """
    for closing in _begun:
        closing.set()


def _start(closing: Closing, worker: int) -> None:
    """Leave signals to the training process, which decides when to stop; leave the cores to all workers."""

    def end(number: int, frame: Any) -> None:
        if closing.is_set():  # then it is the training process that sends it, and waits
            os._exit(0)

    for number in SIGNALS:
        signal.signal(number, end if number == signal.SIGTERM else signal.SIG_IGN)
    torch.set_num_threads(1)
    give_back()  # it decodes, and computes no steps
    silence_pillow()


def this_worker() -> tuple[int, int]:
    """Return the number of this loader process, and how many there are; (0, 1) if there is none."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def plain(error: InputError | Fault) -> InputError | Fault:
    """Return an error as a worker hands it over: raised, it would arrive as the text of a traceback."""
    return InputError(str(error)) if isinstance(error, InputError) else Fault(str(error))
