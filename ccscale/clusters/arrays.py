"""Files of arrays in a version: .npz without timestamps, checked against the listed hash."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.errors import InputError

Arrays = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write a file atomically; return its SHA-256."""
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    content = data.getvalue()
    atomic.write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_arrays(path: Path, sha256: str) -> Arrays:
    """Read a file of arrays. Raises as `read_kept` does."""
    with np.load(io.BytesIO(read_kept(path, sha256)), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_kept(path: Path, sha256: str) -> bytes:
    """Read any file that a version lists.

    Raises
    ------
    InputError
        If it is not the listed one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} is damaged (its SHA-256 does not match the listed one); {REMEDY}")
    return content


REMEDY = "restore it from a copy, or go back with `ccscale lineage rollback` to a version that is whole"
