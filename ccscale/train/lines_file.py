"""A text file that grows by whole lines, and outlives a disk that is full or read-only for a while."""

import os
from collections.abc import Iterable
from pathlib import Path


class LinesFile:
    """Appends lines; those that the disk does not take are kept, and written before the next ones.

    Parameters
    ----------
    path
        The file; it need not be there.

    Attributes
    ----------
    failure
        Why the last lines could not be written; None if they were.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[bytes] = []
        self.failure: OSError | None = None

    @property
    def kept(self) -> int:
        """How many lines wait for the disk."""
        return len(self._kept)

    def append(self, lines: Iterable[str]) -> None:
        """Append lines (without their ends), after those that are kept."""
        self._kept += [f"{line}\n".encode() for line in lines]
        if not self._kept:
            return
        try:
            self._write(b"".join(self._kept))
        except OSError as error:
            self.failure = error
        else:
            self._kept, self.failure = [], None

    def _write(self, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            end = os.fstat(descriptor).st_size
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                os.ftruncate(descriptor, end)  # no line is written twice, or in part
                raise
        finally:
            os.close(descriptor)
