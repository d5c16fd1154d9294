"""Image folders: lists files by their names alone and tells splits and classes from the folders.

SOURCE/<image>                    one split, unlabelled
SOURCE/<class>/…/<image>          one split, a class per folder
SOURCE/<split>/<image>            several splits (where all the folders have names of splits)
SOURCE/<split>/<class>/…/<image>

Other files are counted (`data/shards/skipped_files.py`). Names may be no UTF-8, or differ only in the extension.
"""

import os
from collections.abc import Iterator
from itertools import groupby

from ccscale.data.images.extensions import EXTENSIONS, is_image
from ccscale.data.shards.folder_walk import entries_below, is_folder, is_hidden
from ccscale.data.shards.keys import escaped
from ccscale.data.shards.skipped_files import LEADING_BACK, SPECIAL, SkippedFiles
from ccscale.data.shards.splits import SPLIT_NAMES, TRAINING_SPLITS, UNLABELLED_SPLITS, check_split
from ccscale.data.sources.contents import File
from ccscale.data.sources.items import Item, Source, source_of_files
from ccscale.errors import InputError


def folder(path: str | os.PathLike[str], split: str | None = None, labels: bool = True) -> Source:
    """List a folder of images.

    Images directly in the folder are unlabelled; with sub-folders each is a class, however deep its images lie.
    Where all the sub-folders have names of splits (``train``, ``val``, ``test``, ``unlabelled``, …), each is a
    split of its own that holds either. Hidden files are passed over; links are followed,
    but for one to a folder that holds it.

    Parameters
    ----------
    path
        The folder.
    split
        Take the whole folder as one split of this name.
    labels
        If False, sub-folders (but for those of splits) mean nothing and no image has a label.

    Raises
    ------
    InputError
        If there is no such folder, it has no images, images lie beside the folders of classes, or other folders
        beside those of splits.
    """
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        raise InputError(f"there is no folder {path}; SOURCE must be a folder of images")
    if split is not None:
        check_split(split, "--split")
    passed = SkippedFiles()
    names = list(image_files(root, passed=passed))
    if not names:
        beside = f"; {passed}" if passed.kinds else ""
        raise InputError(
            f"{path} contains no images ({', '.join(sorted(EXTENSIONS))}); check the path{beside}"
        )

    parts = _split_folders(names, str(path) if labels else None) if split is None else None
    if parts is None:
        parts = {split or "train": ("", names)}
    found = {
        part: (prefix, inside, labels and _has_classes(inside, part, prefix, str(path)))
        for part, (prefix, inside) in parts.items()
    }
    classes = sorted(
        {_first(name) for _, inside, labelled in found.values() if labelled for name in inside},
        key=os.fsencode,
    )
    index = {name: number for number, name in enumerate(classes)}
    splits = {
        part: [file_item(root, prefix + name, index[_first(name)] if labelled else None) for name in inside]
        for part, (prefix, inside, labelled) in found.items()
    }
    return source_of_files(root, "folder", classes, classes, splits, passed)


def image_files(root: str, prefix: str = "", passed: SkippedFiles | None = None) -> Iterator[str]:
    """Yield the image files below `root`, relative to it with '/', each folder's files before its sub-folders.

    `passed` counts what is passed over.
    """
    passed = SkippedFiles() if passed is None else passed
    for name, entry in entries_below(root, prefix):
        if is_hidden(entry):
            passed.add(name)
        elif is_folder(entry):
            passed.add(name, LEADING_BACK)
        # A broken link to an image is listed, so that it is reported as an image that cannot be read.
        elif not entry.is_symlink() and not entry.is_file():
            passed.add(name, SPECIAL)
        elif is_image(name):
            yield name
        else:
            passed.add(name)


def _first(name: str) -> str:
    """Return the first folder of a relative path, "" for a file at the top."""
    return name.partition("/")[0] if "/" in name else ""


def _split_folders(names: list[str], path: str | None = None) -> dict[str, tuple[str, list[str]]] | None:
    """Return split to (folder with '/', its files below that), or None where the folders are no splits.

    With a path, folders of a training and another split beside folders of other names are refused.
    """
    grouped = {top: list(inside) for top, inside in groupby(names, key=_first)}
    splits = {top.lower() for top in grouped}
    known = sorted(splits & SPLIT_NAMES)
    others = [top for top in grouped if top.lower() not in SPLIT_NAMES]
    if path is not None and "" not in splits and others and len(known) > 1 and splits & TRAINING_SPLITS:
        raise InputError(
            f"{path} contains folders of splits ({', '.join(known)}) and others ({escaped(others[0])}), "
            "which may be splits or classes: rename these (known splits are "
            f"{', '.join(sorted(SPLIT_NAMES))}), move them, or treat all folders as classes with --split "
            "NAME"
        )
    if not splits <= SPLIT_NAMES or len(splits) < len(grouped):  # Train beside train are two classes
        return None
    return {
        top.lower(): (f"{top}/", [name[len(top) + 1 :] for name in inside]) for top, inside in grouped.items()
    }


def _has_classes(names: list[str], split: str, prefix: str, path: str) -> bool:
    """Return whether the images lie in folders of classes; refuse a mixture, which has two readings."""
    if split in UNLABELLED_SPLITS:
        return False
    bare = [name for name in names if "/" not in name]
    if bare and len(bare) < len(names):
        raise InputError(
            f"{os.path.join(path, prefix)} contains both images ({bare[0]}) and folders of images "
            f"({_first(names[-1])}): move the images into the folders, or treat all as unlabelled with "
            "--no-labels"
        )
    return not bare


def file_item(root: str, name: str, label: int | None) -> Item:
    """Return the item of a file, named relative to `root` with '/'; dots in its name become '_' in its key."""
    key = escaped(name.rpartition(".")[0].replace(".", "_"))
    return Item(key, File(f"{root}/{name}"), label, escaped(name))
