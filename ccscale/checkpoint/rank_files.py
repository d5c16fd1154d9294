"""A rank's files of a checkpoint: written from a snapshot, flushed, and recorded with their hashes.

::

    .staging/step-00001000/
      deepspeed/...             this rank's files
      .written/rank-00000.json  their sizes and hashes, as they were written; gone before the commit
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ccscale import atomic
from ccscale.checkpoint.marker import Hashes
from ccscale.checkpoint.snapshot import Snapshot

NOTES = ".written"


class HashedFile:
    """A file for `torch.save` that hashes its content.

    Nothing is raised from `write`: torch calls it from C++, where an exception in mid-archive may end the process.
    What went wrong is kept in `failure`, and nothing more is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes."""
        size = memoryview(data).nbytes
        self._digest.update(data)
        self._bytes += size
        if self.failure is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.failure = error
        return size

    def flush(self) -> None:
        """Do nothing: the file is flushed at the end."""

    @property
    def facts(self) -> dict[str, Any]:
        """Size and hash of the content."""
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


def write_files(folder: Path, rank: int, snapshot: Snapshot) -> None:
    """Write a rank's files of a checkpoint, and the note that says which they are.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    written: Hashes = {}
    for name, state in snapshot.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            hashed = HashedFile(file)
            torch.save(state.restore(), hashed)  # type: ignore[arg-type]
            if hashed.failure is not None:
                raise hashed.failure
            file.flush()
            os.fsync(file.fileno())
        written[name] = hashed.facts
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(_note(folder, rank), json.dumps(written).encode())


def collect_notes(folder: Path, world: int) -> Hashes:
    """Return size and hash of what all ranks have written, and remove the notes and whatever is not in them."""
    written: Hashes = {}
    for rank in range(world):
        written |= json.loads(_note(folder, rank).read_bytes())
    shutil.rmtree(folder / NOTES)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if str(path.relative_to(folder)) not in written:
            path.unlink()
    return written


def _note(folder: Path, rank: int) -> Path:
    return folder / NOTES / f"rank-{rank:05d}.json"
