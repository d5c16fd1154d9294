"""``ccscale lineage rollback``: makes another version the current one; nothing else changes."""

import contextlib
from pathlib import Path

from ccscale.checkpoint.lock import FolderLock
from ccscale.clusters.draft import disk_errors_as_fault, drop, finish_interrupted
from ccscale.clusters.lineage import Lineage, clusters_of, read_current, write_current
from ccscale.errors import InputError


def roll_back(run: str | Path, number: int) -> int | None:
    """Make a version the current one, an older one or one that was rolled back; return which one was.

    Work that a killed command has left is completed or dropped. The next version descends from this one; numbers
    and ids are never reused.

    Raises
    ------
    InputError
        If there is no such version, it or one that it came from is damaged, or another process writes there.
    Fault
        If it cannot be written.
    """
    folder = clusters_of(run)
    if not folder.is_dir():
        read_current(folder)  # which says that there are none
    with FolderLock(folder) as lock:
        lock.take()
        before = None
        with contextlib.suppress(InputError):  # what names the current one may be damaged: this mends it
            finish_interrupted(folder)
            before = read_current(folder)
        Lineage(folder, number).chain()
        drop(folder)
        with disk_errors_as_fault(folder):
            if before != number:
                write_current(folder, number)
    return before
