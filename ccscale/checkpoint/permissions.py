"""Files that only their owner can write, and checks that the file system supports permissions."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from ccscale.errors import InputError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
PROBE = ".permissions-"
"""What the names of folders begin with that `check_kept` makes for a moment."""


def restrict(path: str | os.PathLike[str] | int) -> None:
    """Remove write permission of group and others from a file, folder or open file, whatever the umask."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & OTHERS_WRITE:
        os.chmod(path, mode & ~OTHERS_WRITE)


def doubt(facts: os.stat_result) -> str | None:
    """Return why somebody else may have written a file, given its status; root is trusted."""
    if facts.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {facts.st_uid}"
    return f"mode {stat.S_IMODE(facts.st_mode):03o}" if facts.st_mode & OTHERS_WRITE else None


def way_out() -> str:
    """Return a remedy for file systems without permissions."""
    return (
        "a folder on another file system (run=DIR), or this one mounted so that only you can write (FAT, NTFS, "
        f"SMB: the mount options uid={os.geteuid()},umask=022)"
    )


def check_kept(folder: Path) -> None:
    """Check that permissions work in a folder, with a temporary file.

    Where none can be made, nothing is checked: who writes there will say so.

    Raises
    ------
    InputError
        If permissions have no effect there.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    wrong = None
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix=PROBE, dir=place) as made:
        below, file = Path(made, "folder"), Path(made, "file")
        below.mkdir()
        file.touch()
        for path in (below, file):
            with contextlib.suppress(PermissionError):  # some file systems refuse to change a mode
                restrict(path)
            wrong = wrong or doubt(path.stat())
    if wrong is not None:
        raise InputError(
            f"{place} is on a file system where permissions have no effect (files created there stay "
            f"writable by others: {wrong}). Checkpoints can run code when loaded, so checkpoints kept "
            f"there would be refused: use {way_out()}"
        )
