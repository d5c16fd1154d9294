"""Keeps Python's garbage collection out of the steps.

A full collection visits every object of the process, for tens of milliseconds, whenever Python decides; all other
ranks wait, now for one rank, now for another. Here it runs between steps, on all ranks after the same step.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collect_by_hand() -> Iterator[None]:
    """Switch automatic collection off, and exclude existing objects (modules, the network) from later ones."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def collect() -> None:
    """Collect reference cycles of the last steps."""
    gc.collect(1)
