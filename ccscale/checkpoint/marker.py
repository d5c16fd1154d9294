"""The commit marker of a folder: what is in it, with sizes and hashes.

::

    COMMIT.json   {"version": 1, "step": 1000, "world": 2, "zero": 1, "config": {...},
                   "versions": {...},                of ccscale, torch and others
                   "evaluation": {"information": 1.9, "nmi": 0.7},      if the step was evaluated
                   "heads": [3],                     and the chosen one of several cluster heads, for each K
                   "pins": [800], "serves": 800,     steps to keep; the checkpoint to use instead of this one
                   "files": {"deepspeed/mp_rank_00_model_states.pt": {"bytes": ..., "sha256": "..."}, ...}}
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.checkpoint.layout import TAG
from ccscale.checkpoint.permissions import restrict
from ccscale.errors import InputError, check_version

MARKER = "COMMIT.json"
VERSION = 1  # of the format; markers of 0.1's first weeks have none and are of the same
Hashes = dict[str, dict[str, Any]]


def seal(folder: Path, facts: dict[str, Any], written: Hashes) -> None:
    """Flush a folder to the disk, read it again, and write its marker.

    Nobody but the owner can write the files from then on, whatever the umask.

    Raises
    ------
    OSError
        If it cannot be written, or what is read is not what was written.
    """
    for path in (folder, *folder.rglob("*")):
        restrict(path)
    files = hash_files(folder, flush=True)
    for name, expected in written.items():
        if files.get(name) != expected:
            raise OSError(f"{folder / name} does not read back as it was written")
    for path in folder.rglob("*"):
        if path.is_dir():
            atomic.sync_folder(path)
    write_marker(folder, {"version": VERSION, **facts, "files": files})


def read_marker(folder: Path) -> dict[str, Any]:
    """Read a marker.

    Raises
    ------
    InputError
        If there is none, it is damaged, or a later release made it.
    """
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        if not isinstance(marker["files"], dict):
            raise ValueError("its list of files is not a table")
    except FileNotFoundError:
        raise InputError(f"{folder.name} has no {MARKER}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{MARKER} of {folder.name} cannot be read ({error})") from None
    check_version(f"the {MARKER} of {folder.name}", marker.get("version", VERSION), VERSION)
    return marker


def write_marker(folder: Path, marker: dict[str, Any]) -> None:
    """Write a marker, or replace it."""
    with atomic.replacing(folder / MARKER) as file:
        restrict(file.fileno())
        file.write(json.dumps(marker, indent=1).encode())


def verify(folder: Path) -> dict[str, Any]:
    """Check a folder against its marker, and return the marker.

    Raises
    ------
    InputError
        That says what is wrong with it.
    """
    marker = read_marker(folder)
    expected: Hashes = marker["files"]
    found = hash_files(folder, flush=False)
    for name, facts in expected.items():
        if name not in found:
            raise InputError(f"{folder.name} lacks the file {name}")
        if found[name] != facts:
            raise InputError(
                f"the file {name} of {folder.name} was changed or damaged: its hash does not match"
            )
    strange = [name for name in found if name.startswith(f"{TAG}/") and name not in expected]
    if strange:  # DeepSpeed would take it for its own
        raise InputError(f"{folder.name} contains the file {strange[0]}, which its {MARKER} does not list")
    return marker


def hash_files(folder: Path, flush: bool) -> Hashes:
    """Return size and SHA-256 of every file below `folder` but the marker; flush them to the disk first."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)

    def facts(path: Path) -> dict[str, Any]:
        with open(path, "rb") as file:
            if flush:
                os.fsync(file.fileno())
            return {
                "bytes": os.fstat(file.fileno()).st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }

    with ThreadPoolExecutor(max_workers=4) as pool:
        return {
            str(path.relative_to(folder)): result
            for path, result in zip(paths, pool.map(facts, paths), strict=True)
        }
