"""What a tar holds: its samples, found by reading its headers, and what is in it beside them.

Members are grouped by WebDataset's rule: neighbours that share the path up to the first dot of its last part are
a sample. Its image is the member with the first of the `ENDINGS` that is there. Its label is the text of its
``cls``, or of a field of its ``json``. A hard link is read where the member is that it names. What is left over is
counted by kind:

    .md, .db, …       of files that have no image beside them
    .png beside .jpg  of images of a sample that has one already
    hidden            files whose names begin with a dot, as macOS adds to tars
    without an ending, symbolic links, dangling hard links, special files
"""

import itertools
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, Self, cast

from ccscale.data.images.endings import ENDINGS
from ccscale.data.shards.keys import valid
from ccscale.data.shards.labels import LONGEST, LabelError, as_text
from ccscale.errors import InputError, nearest

HEADER_BYTES = 2**20  # of a header with extended attributes, at most
JSON_BYTES = 2**16  # of a sample's json, at most: a larger one is not looked into
LABEL_BYTES = 4 * LONGEST + 64
ORIGIN_FIELDS = ("origin", "url")  # of a sample's json, in the order of preference
MOST_KINDS = 40  # that are counted one by one
MOST_FIELDS = 100  # that are remembered for an error

# How compressed files begin, and what unpacks them.
COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"BZh": "bunzip2",
    b"\x04\x22\x4d\x18": "unlz4",
}

# The key goes up to the first dot of the last part of the path.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_KIND = re.compile("[A-Za-z0-9_-]{1,12}")

# What `tarfile` lets out on damaged tars, besides its own errors.
_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
)


class ShardError(InputError):
    """A shard that is damaged or disagrees with what is known of it.

    Attributes
    ----------
    shard, what
        Its path or URL; what is wrong and where.
    """

    def __init__(self, shard: str, what: str) -> None:
        super().__init__(shard, what)
        self.shard, self.what = shard, what

    def __str__(self) -> str:
        return f"{self.shard}: {self.what}"


class Found(NamedTuple):
    """A sample as it is in a tar."""

    key: str
    ext: str
    offset: int
    size: int
    text: str
    """Of its label; "" where there is none."""
    origin: str | None


@dataclass(slots=True)
class Scan:
    """What a tar holds.

    Attributes
    ----------
    samples
        In its order.
    passed
        Kind of member to how many were passed over.
    first
        The name of the first of them, "" where there is none.
    """

    samples: list[Found] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def pass_over(self, name: str, kind: str) -> None:
        """Count a member that is none of a sample's."""
        self.first = self.first or name
        known = kind in self.passed or len(self.passed) < MOST_KINDS
        self.passed[kind if known else "of other kinds"] += 1


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
    reading = _Reading(file, name, label_field)
    with_image: set[str] = set()
    without: set[str] = set()
    for key, members in _samples(file, name, found):
        images = [ending for ending in ENDINGS if ending in members]
        if images and key in with_image:
            raise ShardError(name, f"two samples have the key {key!r}")
        if key in with_image or (images and key in without):
            what = f"the members of the sample {key!r} are not next to each other"
            raise ShardError(name, f"{what}: write the tar anew, with `tar --sort=name`")
        if not images:
            _check_dots(name, key, members)
            without.add(key)
            for ending, member in members.items():
                found.pass_over(member.name, _kind(ending))
            continue
        with_image.add(key)
        for ending in images[1:]:
            found.pass_over(members[ending].name, f".{ending} beside .{images[0]}")
        image = members[images[0]]
        text, origin = reading.annotations(key, members)
        found.samples.append(Found(valid(key), ENDINGS[images[0]], image.offset, image.size, text, origin))
    reading.check_field(len(found.samples))
    return found


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


def _samples(file: BinaryIO, name: str, found: Scan) -> Iterator[tuple[str, dict[str, _Member]]]:
    """Yield (key, members by ending) for neighbours that share a key."""
    places: dict[str, tuple[int, int]] = {}
    key: str | None = None
    members: dict[str, _Member] = {}
    for member in _members(file, name):
        if member.isreg():
            places[member.name] = member.offset_data, member.size
        if member.isdir():
            continue
        match = _MEMBER.fullmatch(member.name)
        place = places.get(member.linkname if member.islnk() else member.name)
        if member.issym():
            found.pass_over(member.name, "symbolic links")
        elif member.islnk() and place is None:
            found.pass_over(member.name, "dangling hard links")
        elif not (member.isreg() or member.islnk()) or place is None:
            found.pass_over(member.name, "special files")
        elif match is None:
            hidden = member.name.rpartition("/")[2].startswith(".")
            found.pass_over(member.name, "hidden" if hidden else "without an ending")
        else:
            if match[1] != key:
                if key is not None:
                    yield key, members
                key, members = match[1], {}
            ending = match[2].lower()
            if ending in members or member.issparse():
                what = "is sparse" if member.issparse() else "is there twice"
                raise ShardError(name, f"the member {member.name!r} {what}")
            members[ending] = _Member(member.name, *place)
    if key is not None:
        yield key, members


def _check_dots(name: str, key: str, members: dict[str, _Member]) -> None:
    """Refuse a sample without an image whose members were images, had their names no second dot."""
    for ending, member in members.items():
        before, _, last = ending.rpartition(".")
        if before and last in ENDINGS:
            raise ShardError(
                name,
                f"the sample {key!r} has no image but {', '.join(members)}: a sample's name ends at its first "
                f"dot, as WebDataset has it; write the tar anew without the dot in {member.name!r}",
            )


def _kind(ending: str) -> str:
    last = ending.rpartition(".")[2]
    return f".{last}" if _KIND.fullmatch(last) else "of other kinds"


class _Reading:
    """Reads what is written beside a tar's images."""

    def __init__(self, file: BinaryIO, name: str, label_field: str | None) -> None:
        self._file, self._name, self._field = file, name, label_field
        self._texts: dict[str, str] = {}  # the same ones are kept once
        self._seen = False
        self._fields: set[str] = set()

    def annotations(self, key: str, members: dict[str, _Member]) -> tuple[str, str | None]:
        """Return a sample's label as a text, "" where there is none, and where its image came from."""
        try:
            facts = self._json(members["json"]) if "json" in members else None
            if self._field is not None:
                text = as_text(self._labelled(facts, "json" in members))
            else:
                text = as_text(self._read(members["cls"])) if "cls" in members else ""
        except LabelError as error:
            raise ShardError(self._name, f"of the sample {key!r}, {error}") from None
        return self._texts.setdefault(text, text), _origin(facts)

    def check_field(self, samples: int) -> None:
        """Refuse a field of labels that no sample has."""
        if self._field is not None and samples and not self._seen:
            hint = nearest(self._field, self._fields)
            if not hint and self._fields:
                hint = f"; there are {', '.join(map(repr, sorted(self._fields)))}"
            raise ShardError(self._name, f"no sample's json has the field {self._field!r}{hint}")

    def _labelled(self, facts: object, there: bool) -> object:
        if not isinstance(facts, dict):
            if there:
                raise LabelError("", f"cannot be read: its json is no object of up to {JSON_BYTES:,} bytes")
            return None
        if self._field in facts:
            self._seen = True
        elif not self._seen and len(self._fields) < MOST_FIELDS:
            self._fields |= set(list(facts)[:MOST_FIELDS])
        return facts.get(self._field)

    def _read(self, member: _Member) -> bytes:
        self._file.seek(member.offset)
        return self._file.read(min(member.size, LABEL_BYTES))

    def _json(self, member: _Member) -> Any:
        """Return what a json holds; None where it cannot be read: it may be anybody's."""
        if member.size > JSON_BYTES:
            return None
        self._file.seek(member.offset)
        try:
            return json.loads(self._file.read(member.size))
        except (ValueError, RecursionError):  # no JSON, or too deep
            return None


def _origin(facts: object) -> str | None:
    """Return where an image came from by its sample's json, None where that does not say."""
    if not isinstance(facts, dict):
        return None
    try:
        texts = [facts[name] for name in ORIGIN_FIELDS if isinstance(facts.get(name), str)]
        return next((text for text in texts if text.encode()), None)
    except ValueError:  # no Unicode
        return None


def _members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's members, and make sure that their end is the tar's end.

    `tarfile` takes a damaged header in the middle for the end of the tar and says nothing.
    """
    begin = file.read(max(map(len, COMPRESSED)))
    for magic, program in COMPRESSED.items():
        if begin.startswith(magic):
            raise ShardError(
                name, f"it is compressed, so that nothing in it can be found by a seek: run {program} on it"
            )
    file.seek(0)
    end = 0
    try:
        headers = cast(BinaryIO, _Headers(file))
        with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", tarinfo=_Header) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= member.offset:  # tarfile would go round in circles
                    raise tarfile.ReadError(f"the member {member.name!r} ends before it begins")
                tar.members.clear()  # type: ignore[attr-defined]  # they are held by nobody
                yield member
            end = tar.offset
            file.seek(end)
            mark = file.read(tarfile.BLOCKSIZE)
            rest = iter(lambda: file.read(1 << 20), b"")
            empty = all(part.count(0) == len(part) for part in itertools.chain([mark], rest))
    except InputError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(name, f"the tar is damaged or cut off at byte {_block(file)}: {reason}") from None
    if len(mark) < tarfile.BLOCKSIZE:
        raise ShardError(name, f"the tar is cut off at byte {end}: it has no end mark")
    if not empty:
        raise ShardError(name, f"the tar is damaged at byte {end}: neither a header nor the end follows")


class _Header(tarfile.TarInfo):
    """A header that, where it is damaged, is not passed over: newer releases of Python take some for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the header of the next member."""
        begin = archive.offset
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError:
            archive.offset = begin
            raise


class _Headers:
    """A tar as `tarfile` sees it: a header that claims to be large is not read into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        # Python 3.14 reads what is large in parts.
        self._sum = self._sum + size if size > tarfile.BLOCKSIZE else 0
        if size < 0 or self._sum > HEADER_BYTES:
            what = f"more than {HEADER_BYTES}" if size > 0 else str(size)
            raise tarfile.ReadError(f"a header claims to have {what} bytes")
        return self._file.read(size)


def _block(file: BinaryIO) -> int:
    """Return the offset of the block that reading stopped in."""
    return file.tell() // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
