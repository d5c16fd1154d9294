"""Scans the headers of a tar: finds its samples, and everything else in it.

Members are grouped by WebDataset's rule: neighbours that share the path up to the first dot of its last part are
a sample. Its image is the member with the first of the `EXTENSIONS` that is there. Its label is the text of its
``cls``, or of a field of its ``json``. A hard link is read where the member is that it names. What is left over is
counted by kind:

    .md, .db, …       of files that have no image beside them
    .png beside .jpg  of images of a sample that has one already
    hidden            files whose names begin with a dot, as macOS adds to tars
    without an ending, symbolic links, dangling hard links, special files
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ccscale.data.images.extensions import EXTENSIONS
from ccscale.data.shards.annotations import Annotations, Member
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.keys import valid
from ccscale.data.shards.labels import LabelError
from ccscale.data.shards.skipped_files import BARE, HIDDEN, SPECIAL, SkippedFiles
from ccscale.data.shards.tar_reader import tar_members

# The key goes up to the first dot of the last part of the path.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)


class FoundSample(NamedTuple):
    """A sample as it is in a tar."""

    key: str
    ext: str
    offset: int
    size: int
    text: str
    """Of its label; "" if there is none."""
    origin: str | None


@dataclass(slots=True)
class Scan:
    """The content of a tar.

    Attributes
    ----------
    samples
        In its order.
    passed
        The members that are none of a sample's.
    """

    samples: list[FoundSample] = field(default_factory=list)
    passed: SkippedFiles = field(default_factory=SkippedFiles)


def scan(file: BinaryIO, name: str, label_field: str | None = None) -> Scan:
    """Read a tar from its beginning to its end.

    Parameters
    ----------
    file
        Seekable.
    name
        What to call the shard in errors.
    label_field
        The field of the samples' json that is the label; by default the label is the text of ``cls``.

    Raises
    ------
    ShardError
        If the tar is damaged, cut off or compressed, two samples share a key, a sample's members are not next to
        each other, its name has a dot, or its label cannot be read.
    """
    found = Scan()
    beside = Annotations(file, label_field)
    with_image: set[str] = set()
    without: set[str] = set()
    for key, members in _samples(file, name, found.passed):
        images = [ending for ending in EXTENSIONS if ending in members]
        if images and key in with_image:
            raise ShardError(name, f"two samples have the key {key!r}")
        if key in with_image or (images and key in without):
            what = f"the members of the sample {key!r} are not next to each other"
            raise ShardError(name, f"{what}: rewrite the tar with `tar --sort=name`")
        if not images:
            _check_dots(name, key, members)
            without.add(key)
            for member in members.values():
                found.passed.add(member.name)
            continue
        with_image.add(key)
        for ending in images[1:]:
            found.passed.add(members[ending].name, f".{ending} beside .{images[0]}")
        image = members[images[0]]
        try:
            text, origin = beside.of(members)
        except LabelError as error:
            raise ShardError(name, f"of the sample {key!r}, {error}") from None
        found.samples.append(
            FoundSample(valid(key), EXTENSIONS[images[0]], image.offset, image.size, text, origin)
        )
    if found.samples and beside.complaint:
        raise ShardError(name, beside.complaint)
    return found


def _samples(file: BinaryIO, name: str, passed: SkippedFiles) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield (key, members by ending) for neighbours that share a key."""
    places: dict[str, tuple[int, int]] = {}
    key: str | None = None
    members: dict[str, Member] = {}
    for member in tar_members(file, name):
        if member.isreg():
            places[member.name] = member.offset_data, member.size
        if member.isdir():
            continue
        match = _MEMBER.fullmatch(member.name)
        place = places.get(member.linkname if member.islnk() else member.name)
        if member.issym():
            passed.add(member.name, "symbolic links")
        elif member.islnk() and place is None:
            passed.add(member.name, "dangling hard links")
        elif not (member.isreg() or member.islnk()) or place is None:
            passed.add(member.name, SPECIAL)
        elif match is None:
            hidden = member.name.rpartition("/")[2].startswith(".")
            passed.add(member.name, HIDDEN if hidden else BARE)
        else:
            if match[1] != key:
                if key is not None:
                    yield key, members
                key, members = match[1], {}
            ending = match[2].lower()
            if ending in members or member.issparse():
                what = "is sparse" if member.issparse() else "is there twice"
                raise ShardError(name, f"the member {member.name!r} {what}")
            members[ending] = Member(member.name, *place)
    if key is not None:
        yield key, members


def _check_dots(name: str, key: str, members: dict[str, Member]) -> None:
    """Refuse a sample without an image whose members were images, had their names no second dot."""
    for ending, member in members.items():
        before, _, last = ending.rpartition(".")
        if before and last in EXTENSIONS:
            raise ShardError(
                name,
                f"the sample {key!r} has no image but {', '.join(members)}: as in WebDataset, a sample's "
                f"name ends at its first dot; rewrite the tar without the dot in {member.name!r}",
            )
