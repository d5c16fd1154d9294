"""Python's garbage collection, kept out of the steps.

A collection walks over every object of the process, at a moment that Python chooses: tens of milliseconds that all
other ranks wait for, on one rank after the other. Here it happens between steps, on all ranks at the same one.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collect_by_hand() -> Iterator[None]:
    """Switch automatic collection off; what is there already (modules, the network) is left out of later ones."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def collect() -> None:
    """Collect what the last steps left in cycles."""
    gc.collect(1)
