"""Finds the tars in a folder and its sub-folders."""

import os
import shlex
from collections.abc import Iterator

from ccscale.data.shards.folder_walk import Entry, entries_below, is_folder, is_hidden
from ccscale.data.shards.manifest import NAME
from ccscale.data.shards.tar_reader import PACKINGS
from ccscale.errors import InputError


def tars_below(folder: str) -> list[str]:
    """Return the tars in a local folder and its sub-folders, relative with '/', sorted.

    Links are followed, but for one to a folder that holds it. Hidden folders and folders that are data sets of
    their own (with a ``dataset.json``) are passed over.
    """
    return sorted(name for name in _files_below(folder) if name.endswith(".tar"))


def refuse_compressed(folder: str) -> None:
    """Raise InputError that names compressed tars in a folder: nothing in them can be found by a seek."""
    found = [
        (name, packing.program)
        for name in sorted(_files_below(folder))
        for packing in PACKINGS
        if name.endswith(packing.endings)
    ]
    if found:
        name, program = found[0]
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise InputError(
            f"{os.path.join(folder, name)}{more}: it is compressed, which does not allow random access; "
            f"run `{program} {shlex.quote(name)}`, or move it out of the folder"
        )


def _files_below(folder: str) -> Iterator[str]:
    """Yield the names of all files that are not hidden, relative with '/'; see `tars_below`."""

    def is_data_set(entries: list[Entry]) -> bool:
        return any(entry.name == NAME for entry in entries)

    found = entries_below(folder, passed_by=is_data_set)
    return (name for name, entry in found if not (is_hidden(entry) or is_folder(entry)))
