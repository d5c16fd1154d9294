"""What a source hands over: items, one per image, by split."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ccscale.data.images.extensions import extension_of
from ccscale.data.shards.keys import disambiguated, escaped, is_utf_8, unescaped
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.sources.contents import Content
from ccscale.errors import InputError


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source.

    Attributes
    ----------
    key
        Name of the sample: unique in the source, without a dot.
    content
        The encoded image, to be read where it is needed.
    label
        Index into the source's classes, or None where it is not known.
    origin
        Where the image comes from: its path relative to the source, `escaped` where it is not UTF-8.
    """

    key: str
    content: Content
    label: int | None
    origin: str


@dataclass(frozen=True)
class Source:
    """The images of a data set, by split.

    Attributes
    ----------
    name
        The data set's name.
    kind
        The name in `KINDS` that opened it.
    classes, class_ids
        Names for people and for machines (wnids, folder names), in the order of the labels.
    splits
        Split to its items, in a fixed order.
    passed
        What lies beside the images and is none.
    renamed
        A sentence for each kind of images whose keys are not simply their names.

    Raises
    ------
    InputError
        If two items share a key, or a key is not valid Unicode.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    splits: dict[str, list[Item]]
    passed: SkippedFiles = field(default_factory=SkippedFiles)
    renamed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        origins: dict[str, str] = {}
        for items in self.splits.values():
            for item in items:
                if item.key in origins:
                    raise InputError(
                        f"{origins[item.key]} and {item.origin} would both have the key {item.key!r}: "
                        "rename one (the key of a sample is its path without the extension, with '.' "
                        "replaced by '_')"
                    )
                if not item.key.isascii() and not is_utf_8(item.origin):
                    raise InputError(f"the file name {item.origin!r} is not valid UTF-8: rename the file")
                origins[item.key] = item.origin


def numbered_key(split: str, number: int) -> str:
    """Return the key of an image that has no name of its own but a place in its split, counted from 0."""
    return f"{split}-{number:06d}"


def source_of_files(
    name: str,
    kind: str,
    classes: Iterable[str],
    class_ids: Iterable[str],
    splits: dict[str, list[Item]],
    passed: SkippedFiles,
) -> Source:
    """Return a source of files with any names; colliding keys get their files' extensions."""
    items = [item for inside in splits.values() for item in inside]
    keys = [item.key for item in items]
    endings = [extension_of(item.origin) for item in items]
    own = disambiguated(keys, endings) if len(set(keys)) < len(keys) else keys
    left = iter(own)
    splits = {split: [replace(item, key=next(left)) for item in inside] for split, inside in splits.items()}
    told = []
    if apart := [item.origin for item, key in zip(items, own, strict=True) if key != item.key]:
        told.append(
            f"the endings of {len(apart):,} files are in their keys, as others have the same names (the first, "
            f"{apart[0]})"
        )
    if odd := [item.origin for item in items if "%x" in item.origin and not is_utf_8(unescaped(item.origin))]:
        names = "the name of 1 file is" if len(odd) == 1 else f"the names of {len(odd):,} files are"
        told.append(f"{names} not UTF-8: such bytes are kept as in {odd[0]}")
    return Source(
        escaped(os.path.basename(name)) or "images",
        kind,
        tuple(map(escaped, classes)),
        tuple(map(escaped, class_ids)),
        splits,
        passed,
        tuple(told),
    )
