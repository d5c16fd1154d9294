"""Makes the allocator keep freed memory while a process computes on a CPU.

glibc takes a large allocation from the kernel and returns it when it is freed. A step of training allocates the
same activations and gradients again and again, and each time the kernel hands out pages of zeros: up to half of a
step's time. With two thresholds (M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, mallopt(3)) at 1 GiB they come from the
heap, and the heap keeps them. Where the C library is another, or refuses, or a user has chosen by glibc's own
variables (MALLOC_TRIM_THRESHOLD_=131072, say, which gives back), all stays as it is.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 1 << 30  # bytes
USUAL = 32 << 20  # where glibc's own threshold, which follows what is freed, ends

_kept: list[ctypes.CDLL] = []


@contextmanager
def keep_freed(wanted: bool = True) -> Iterator[bool]:
    """Keep what is freed for the length of the context, and return it to the system at its end.

    Parameters
    ----------
    wanted
        Whether there is anything to gain: not on a GPU.

    Yields
    ------
    bool
        Whether it is kept.
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if wanted and not chosen and not _kept and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if _set_thresholds(libc, KEPT, KEPT):
            _kept.append(libc)
    try:
        yield bool(_kept)
    finally:
        give_back()


def give_back() -> None:
    """End it: also in a copy of this process, which inherits it and has other work."""
    while _kept:
        libc = _kept.pop()
        _set_thresholds(libc, USUAL, 2 * USUAL)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, mmap: int, trim: int) -> bool:
    return bool(libc.mallopt(MMAP_THRESHOLD, mmap) and libc.mallopt(TRIM_THRESHOLD, trim))
