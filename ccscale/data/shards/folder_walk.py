"""Walks a folder and its sub-folders: images, and tars, are searched for in the files that it finds."""

import os
from collections.abc import Callable, Iterator

from ccscale.errors import InputError

Entry = os.DirEntry[str]


def entries_below(
    root: str,
    prefix: str = "",
    passed_by: Callable[[list[Entry]], bool] = lambda entries: False,
    above: tuple[str, ...] = (),
) -> Iterator[tuple[str, Entry]]:
    """Yield (name relative to `root` with '/', entry) of all but folders, each folder's before its sub-folders'.

    Names are in the order of their bytes. Links are followed, but for one that leads back to a folder that holds
    it, which is yielded: what is there is found without it. Hidden folders are not entered, nor those of whose
    entries `passed_by` is true. `prefix`, with '/', is a sub-folder to begin in; `above` has the real paths of the
    folders that hold it. InputError tells of a folder that cannot be read.
    """
    path, named = os.path.realpath(os.path.join(root, prefix)), os.path.join(root, prefix).rstrip("/")
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:  # it has gone since its name was read
        return
    except OSError as error:
        raise InputError(f"{named} cannot be read ({error.strerror}): check its permissions") from None
    if above and passed_by(entries):
        return
    folders, around = [], (*above, path)
    for entry in entries:
        if is_hidden(entry) or not is_folder(entry) or os.path.realpath(entry.path) in around:
            yield f"{prefix}{entry.name}", entry
        else:
            folders.append(f"{prefix}{entry.name}/")
    for folder in folders:
        yield from entries_below(root, folder, passed_by, around)


def is_hidden(entry: Entry) -> bool:
    """Return whether it is hidden by its name."""
    return entry.name.startswith(".")


def is_folder(entry: Entry) -> bool:
    """Return whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
