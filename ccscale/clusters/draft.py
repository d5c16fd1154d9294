"""Writes a version atomically, next to the others, under the lock of ``RUN/clusters``.

::

    RUN/clusters/.update/began.json    number, parent, reason, request, and time of the start
    RUN/clusters/.update/version/      the version that is being made; finished tables in it remain after a kill
    RUN/clusters/v000007/              the same, renamed: complete, but not yet current
    RUN/clusters/current               names it: it is current
                                       then .update is removed

A kill leaves one of these states, and the next command that writes resolves it: a complete version becomes the
current one; an incomplete one is continued by the same command, with the same bytes, and dropped by any other.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from ccscale import atomic, dist
from ccscale.checkpoint.lock import FolderLock
from ccscale.clusters.lineage import (
    CURRENT,
    clusters_of,
    numbers_of,
    read_current,
    version_folder,
    write_current,
)
from ccscale.clusters.version import FILE, Version, Why
from ccscale.device import pick_device
from ccscale.errors import Fault, InputError
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

PENDING, BEGAN, MAKING = ".update", "began.json", "version"


@dataclass(frozen=True)
class Draft:
    """A version that is being made.

    Attributes
    ----------
    clusters
        ``RUN/clusters``.
    number, parent
        Numbers of this version and its parent.
    why, asked
        The kind of command, and the request as a sentence.
    when
        Time when the command began; the same after a kill.
    """

    clusters: Path
    number: int
    parent: int | None
    why: Why
    asked: str
    when: str

    @property
    def folder(self) -> Path:
        """The folder in which it is made."""
        return self.clusters / PENDING / MAKING

    def commit(self, version: Version) -> None:
        """Complete it, and make it the current version.

        Raises
        ------
        Fault
            If it cannot be written; then the version before stays the current one.
        """
        with disk_errors_as_fault(self.clusters):
            version.save(self.folder)
            for path in sorted(self.folder.rglob("*")):
                atomic.sync_file(path)
            atomic.sync_folder(self.folder)
            os.rename(self.folder, version_folder(self.clusters, self.number))
            atomic.sync_folder(self.clusters)
            write_current(self.clusters, self.number)
        _drop(self.clusters)


@contextlib.contextmanager
def exclusive_writer(
    run: str | Path, device: str, request: StopRequest | None = None
) -> Iterator[torch.device]:
    """Lock a run's clusters for writing, on all ranks; an interrupted write is completed first.

    Raises
    ------
    InputError
        If there are none, or another process is writing there.
    """
    folder, env = clusters_of(run), RankEnvironment.read()
    where = pick_device(device, env.local_rank)
    meeting = None if request is None else request.at_once()
    with FolderLock(folder) as lock, process_group(env, where, meeting):

        def enter() -> None:
            if not folder.is_dir():
                read_current(folder)  # which says what is missing
            lock.take()
            finish_interrupted(folder)
            read_current(folder)

        dist.on_rank_zero(enter)
        yield where


def begin_draft(clusters: Path, why: Why, asked: str) -> Draft:
    """Begin a version behind the current one, or continue with one that was requested in the same words.

    Call it after `finish_interrupted`. On one rank.
    """
    parent = read_current(clusters) if (clusters / CURRENT).exists() else None
    number = 1 + max(numbers_of(clusters), default=0)
    wanted = Draft(clusters, number, parent, why, asked, _now())
    found = pending(clusters)
    if found is not None and asdict(found) | {"when": wanted.when} == asdict(wanted):
        return found
    with disk_errors_as_fault(clusters):
        _drop(clusters)
        wanted.folder.mkdir(parents=True)
        facts = {name: value for name, value in asdict(wanted).items() if name != "clusters"}
        atomic.write_bytes(clusters / PENDING / BEGAN, (json.dumps(facts, indent=1) + "\n").encode())
    return wanted


def finish_interrupted(clusters: Path) -> Draft | None:
    """Make a version current that was complete when its command was killed; return its draft.

    On one rank, under the lock, before anything else is written.
    """
    found = pending(clusters)
    if found is None or not (version_folder(clusters, found.number) / FILE).exists():
        return None
    with disk_errors_as_fault(clusters):
        current = read_current(clusters) if (clusters / CURRENT).exists() else None
        done = found if current in (found.parent, found.number) else None
        if done is not None and current == found.parent:
            Version.load(version_folder(clusters, found.number))
            write_current(clusters, found.number)
        _drop(clusters)
    return done


def drop(clusters: Path) -> None:
    """Discard the version that is being made. On one rank, under the lock."""
    with disk_errors_as_fault(clusters):
        _drop(clusters)


@contextlib.contextmanager
def disk_errors_as_fault(folder: Path) -> Iterator[None]:
    """Raise `Fault` if the clusters cannot be written."""
    try:
        yield
    except OSError as error:
        raise Fault(
            f"{folder} cannot be written: {error.strerror or error}; the clusters are unchanged. Free "
            "some space and run the same command to continue"
        ) from None


def pending(clusters: Path) -> Draft | None:
    """Return the version that is being made; None if there is none or it cannot be continued."""
    place = clusters / PENDING / BEGAN
    try:
        facts = json.loads(place.read_text(encoding="utf-8"))
        return Draft(clusters, **facts)
    except (OSError, ValueError, TypeError):
        return None


def _drop(clusters: Path) -> None:
    """Remove the version that is being made, its description first."""
    (clusters / PENDING / BEGAN).unlink(missing_ok=True)
    shutil.rmtree(clusters / PENDING, ignore_errors=True)


def _now() -> str:
    """Return the current time, or SOURCE_DATE_EPOCH."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = int(text) if text else int(time.time())
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"SOURCE_DATE_EPOCH is {text!r}: set it to seconds since 1970, or unset it"
        ) from None
