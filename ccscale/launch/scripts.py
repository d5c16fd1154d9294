"""Slurm's batch scripts, which come with the package: ``ccscale launch --scripts DIR`` writes them out to edit."""

from pathlib import Path

from ccscale import atomic
from ccscale.errors import InputError

SCRIPTS = Path(__file__).parent / "sbatch"


def write_scripts(folder: str | Path) -> list[Path]:
    """Write the scripts, and what README.md says of them, into a folder.

    Parameters
    ----------
    folder
        It is made if there is none. A script in it that is the same stays.

    Returns
    -------
    list of Path
        The files, whether they were there or not.

    Raises
    ------
    InputError
        If one of them is there with other content, as when it was edited, or the folder cannot be written; then
        nothing is.
    """
    folder = Path(folder)
    contents = {folder / path.name: path.read_bytes() for path in sorted(SCRIPTS.iterdir())}
    try:
        there = {path: path.read_bytes() for path in contents if path.exists()}
        if edited := [path for path, data in there.items() if data != contents[path]]:
            raise InputError(
                f"{edited[0]} exists and differs from what would be written: choose another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for path in contents.keys() - there:
            atomic.write_bytes(path, contents[path])
    except OSError as error:
        raise InputError(f"the scripts cannot be written to {folder}: {error.strerror}") from None
    return list(contents)
