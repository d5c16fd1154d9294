"""A conversion that is killed at a file of its choice, and what it has left."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccscale import atomic
from ccscale.data.conversion import conversion


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def die_at(monkeypatch: pytest.MonkeyPatch, step: int, after: bool) -> None:
    """Die when the file number `step` gets its name, before that (its temporary file stays) or after it."""
    steps = itertools.count()

    @contextlib.contextmanager
    def replacing(path: str) -> Iterator:
        with open(f"{path}.part", "wb") as file:
            yield file
        last = next(steps) == step
        if last and not after:
            raise Killed
        os.replace(f"{path}.part", path)
        if last:
            raise Killed

    monkeypatch.setattr(atomic, "replacing", replacing)
    monkeypatch.setattr(conversion, "remove_notes", lambda out: None)  # a killed process tidies nothing
