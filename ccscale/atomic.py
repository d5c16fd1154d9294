"""Files that appear under their name whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], hidden: bool = False) -> Iterator[BinaryIO]:
    """Open ``path.part`` for writing; on success flush it to the disk and rename it to `path`, else remove it.

    If it is to be `hidden`, its name begins with a dot.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.part") if hidden else f"{path}.part"
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    sync_folder(os.path.dirname(path) or ".")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as file:
        file.write(data)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Flush the rename itself, which is an entry of the folder."""
    sync_file(path)


def sync_file(path: str | os.PathLike[str]) -> None:
    """Flush what was written to a file, by whatever descriptor."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
