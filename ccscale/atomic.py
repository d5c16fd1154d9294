"""Atomic writes: files and new folders that appear under their name complete or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ccscale.errors import Fault, InputError


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


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make ``path.part`` for what goes into a new folder; on success rename it to `path`, else remove it.

    Raises
    ------
    InputError
        If `path` is there already, or cannot be made.
    """
    if path.exists():
        raise InputError(f"{path} already exists; choose a new folder")
    part = path.with_name(f"{path.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of one that was cut off
        part.mkdir(parents=True)
        yield part
        part.rename(path)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        raise


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


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a `Fault` with the path and the remedy where the disk does not take what is written."""
    try:
        yield
    except OSError as error:
        raise Fault(
            f"{path} cannot be written: {error.strerror or error}; free some space and run the same "
            "command to continue"
        ) from None
