"""The records of a conversion next to its shards, from which it continues after a kill.

    OUT/.ccscale-making/
        lock                  held by the conversion and its workers to the end of the last of them
        request.json          digest of what was asked: the source's names and labels, the options
        plan.json             digest of the layout that the shards follow
        hashes-000000.bin     SHA-256 of some of the source's images, for `duplicates.py`
        sizes.json            stored bytes of some of the images, by which the size of the shards is judged
        train-000000.json     of a shard that is whole: its entry, its index's hash, what was left out of it
        kept/                 images that were read before their shard is written (`stash.py`)

A shard counts as made if and only if its record is there, the shard and its index have the hashes in it, and it
holds what the layout says. The folder is removed when the manifest is written, but for what another call of the
same command needs where images could not be read for now.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ccscale import atomic, pool
from ccscale.data.conversion.pixel_statistics import measure_pixels
from ccscale.data.conversion.preparation import Preparation
from ccscale.data.conversion.record import FOLDER, Record, record_path
from ccscale.data.conversion.rejected import Rejected
from ccscale.data.shards import index
from ccscale.data.shards.manifest import NAME, Manifest
from ccscale.data.shards.manifest_file import PixelFacts
from ccscale.errors import InputError
from ccscale.pool import Tick
from ccscale.progress import Meter

Task = TypeVar("Task")
Result = TypeVar("Result")


STASH = "kept"  # its folder
LOCK_SECONDS = 10.0  # workers of a killed conversion end within a moment


class Conversion:
    """A conversion under way in a folder; made by `begin`.

    Attributes
    ----------
    out
        Where the shards go.
    folder
        Where the notes are.
    preparation
        How images are stored.
    progress
        Whether to show progress on standard error.
    resumed
        Whether a conversion of the same request was begun before.
    """

    def __init__(
        self, out: str, preparation: Preparation, workers: int | None, progress: bool, lock: int
    ) -> None:
        self.out, self.folder = out, os.path.join(out, FOLDER)
        self.preparation, self.progress = preparation, progress
        self.resumed = False
        self._workers, self._lock = workers, lock

    def run(
        self,
        function: Callable[[Task, Tick], Result],
        tasks: Sequence[Task],
        meter: Meter,
        alone: bool = False,
        few: bool = False,
    ) -> list[Result]:
        """Run a function over tasks in processes that hold the folder's lock, or `alone` in this one.

        With `few`, they are done before processes would have started: then only a number that was asked for counts.
        """
        here = alone or (few and self._workers is None)
        return pool.run(function, tasks, meter, 1 if here else self._workers, self._lock)

    def measure(self, shown: tuple[int, ...] | None, made: Manifest) -> PixelFacts:
        """Measure the numbers of the images of shards that are there."""
        return measure_pixels(made, shown, self._workers, self.progress, self._lock)

    def pin_layout(self, digest: str, may_change: bool = False) -> None:
        """Note the layout; refuse to go on by another one, unless there is a reason for it to have changed."""
        path = os.path.join(self.folder, "plan.json")
        if _read_digest(path) not in (None, digest) and not may_change:
            raise InputError(
                f"the images have changed since the conversion to {self.out} began: delete that folder "
                "and start again"
            )
        _write_digest(path, digest)

    def rejected(self) -> list[Rejected]:
        """Return the images that earlier calls rejected."""
        return [line for record in self.records().values() for line in record.rejected]

    def records(self) -> dict[str, Record]:
        """Return the records of earlier calls, by the names of the shards."""
        names = [f"{name.removesuffix('.json')}.tar" for name in sorted(os.listdir(self.folder))]
        found = {name: Record.load(self.out, name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def forget(self, tar: str) -> None:
        """Remove the record of a shard."""
        os.unlink(record_path(self.out, tar))

    def reopen(self) -> None:
        """Mark a finished data set as being made again."""
        self.resumed = True
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.out, NAME))
        atomic.sync_folder(self.out)

    def sizes(self) -> dict[str, int]:
        """Return the stored bytes of noted images, by key; 0 for unreadable ones."""
        try:
            with open(os.path.join(self.folder, "sizes.json"), "rb") as file:
                return {str(key): int(size) for key, size in json.loads(file.read()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def note_sizes(self, sizes: dict[str, int]) -> None:
        """Note the stored bytes of images."""
        if sizes != self.sizes():
            atomic.write_bytes(os.path.join(self.folder, "sizes.json"), json.dumps(sizes).encode())

    def remove_stash(self) -> None:
        """Remove the images that were read beforehand; the notes stay."""
        shutil.rmtree(os.path.join(self.folder, STASH), ignore_errors=True)

    def remove_leftovers(self, tars: list[str], others: list[str]) -> None:
        """Remove temporary tars, indexes and other files of a killed conversion."""
        shards = [os.path.join(self.out, name) for name in tars]
        finals = [*shards, *map(index.index_location, shards)]
        finals += [os.path.join(self.out, name) for name in others]
        notes = [
            os.path.join(place, name)
            for place in (self.folder, os.path.join(self.folder, STASH))
            if os.path.isdir(place)
            for name in os.listdir(place)
            if name.endswith(".part")
        ]
        for path in [*(f"{path}.part" for path in finals), *notes]:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                os.unlink(path)


def remove_notes(out: str) -> None:
    """Remove the notes of a conversion that is done or abandoned."""
    shutil.rmtree(os.path.join(out, FOLDER), ignore_errors=True)


def check_folder(out: str, request: str) -> None:
    """Refuse a folder whose tars another request, or somebody else, has left there."""
    noted = _read_digest(_request_path(out))
    if noted == request or not os.path.isdir(out):
        return
    if any(name.endswith(".tar") for name in os.listdir(out)):
        whose = "tars of others" if noted is None else "unfinished shards of another source or other options"
        raise InputError(f"{out} holds {whose}: choose another folder, or delete it first")


@contextlib.contextmanager
def begin(
    out: str,
    request: str,
    preparation: Preparation,
    workers: int | None,
    progress: bool,
    reopen: bool = False,
) -> Iterator[Conversion]:
    """Begin a conversion in a folder or continue with it, alone; made folders that stay empty are removed again.

    With `reopen`, one of the same request that was done before is continued.

    Raises
    ------
    InputError
        If the folder holds the tars of another request or of others, or another process makes shards there.
    """
    new = not os.path.exists(out)
    if not reopen:
        check_folder(out, request)
    folder = os.path.join(out, FOLDER)
    os.makedirs(folder, exist_ok=True)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(lock, out)
        if not reopen and os.path.exists(os.path.join(out, NAME)):
            raise InputError(f"another process has meanwhile made the shards in {out}")
        conversion = Conversion(out, preparation, workers, progress, lock)
        conversion.resumed = _read_digest(_request_path(out)) == request
        if not conversion.resumed:
            for name in os.listdir(folder):
                if name == STASH:
                    conversion.remove_stash()
                elif name != "lock":
                    os.unlink(os.path.join(folder, name))
            _write_digest(_request_path(out), request)
        try:
            yield conversion
        except BaseException:
            begun = ("hashes-", STASH)
            if not any(name.startswith(begun) or name.endswith(".tar") for name in _names(out, folder)):
                remove_notes(out)
                if new:
                    with contextlib.suppress(OSError):
                        os.rmdir(out)
            raise
    finally:
        os.close(lock)


def _names(*folders: str) -> list[str]:
    return [name for folder in folders for name in os.listdir(folder)]


def _request_path(out: str) -> str:
    return os.path.join(out, FOLDER, "request.json")


def _read_digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return str(json.loads(file.read())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_digest(path: str, digest: str) -> None:
    atomic.write_bytes(path, json.dumps({"sha256": digest}).encode() + b"\n")


def _lock(descriptor: int, out: str) -> None:
    """Lock the open file; wait a moment for processes that are about to end."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise InputError(f"another process is making shards in {out}: wait for it to end") from None
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):  # a file system without locks
                return None
            raise
        time.sleep(0.1)
