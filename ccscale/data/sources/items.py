"""What a source hands over: items, one per image, by split."""

from dataclasses import dataclass

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
        Where the image comes from, for people: its path relative to the source.
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

    def __post_init__(self) -> None:
        origins: dict[str, str] = {}
        for items in self.splits.values():
            for item in items:
                if item.key in origins:
                    raise InputError(
                        f"{origins[item.key]} and {item.origin} would both be the sample {item.key!r}: rename one "
                        "(a sample's key is the file's path without its extension, with '.' as '_')"
                    )
                if not item.key.isascii() and not _is_unicode(item.origin):
                    raise InputError(f"the file name {item.origin!r} is not valid UTF-8: rename the file")
                origins[item.key] = item.origin


def numbered_key(split: str, number: int) -> str:
    """Return the key of an image that has no name of its own but a place in its split, counted from 0."""
    return f"{split}-{number:06d}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
