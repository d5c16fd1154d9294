"""Finds the members of tar files by their headers alone, so that each can be read by its offset.

A tar is a row of members, each a header of 512 bytes and its data filled up to whole blocks of 512, and a block of
zeros at the end. `tarfile` reads the same at a quarter of the speed, takes a damaged header for the end, and cannot
look into a tar that lies inside another.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
FILES = frozenset([b"\0", b"0", b"7"])  # types of members
EXTENSIONS = frozenset([b"L", b"x"])  # their data say more about the next member
PASSED_OVER = frozenset([b"K", b"g"])  # the next member stays the same
NO_DATA = frozenset(b"%c" % kind for kind in b"123456")  # links, devices, folders, whatever size they tell
LONGEST_NAME = 1 << 16  # bytes of an extension that are looked at
COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7z": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


class Member(NamedTuple):
    """A file in a tar: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


class DamagedTar(ValueError):
    """A tar that is damaged, cut off or none at all; the message says what and where."""


def compression(descriptor: int, start: int = 0) -> str | None:
    """Return the command that decompresses what begins at a byte of an open file; None where nothing needs it."""
    magic = os.pread(descriptor, 4, start)
    return next((command for begin, command in COMPRESSED.items() if magic.startswith(begin)), None)


def tar_members(descriptor: int, start: int, end: int) -> Iterator[Member]:
    """Yield the files, not the folders and links, of a tar that is bytes `start` to `end` of an open file.

    Raises
    ------
    DamagedTar
        With the byte in the tar.
    OSError
        If the file cannot be read.
    """
    position, long_name = start, ""
    while True:
        header = os.pread(descriptor, BLOCK, position) if position + BLOCK <= end else b""
        if len(header) < BLOCK:
            raise DamagedTar(f"cut off at byte {position - start}")
        if header.count(0) == BLOCK:
            return
        try:
            kind, name, size = _parse(header)
        except ValueError:
            raise DamagedTar(f"damaged at byte {position - start}") from None
        data = position + BLOCK
        if data + size > end:
            raise DamagedTar(f"cut off in {long_name or name!r}")
        position = data + -(-size // BLOCK) * BLOCK
        if kind in EXTENSIONS:
            extended = os.pread(descriptor, min(size, LONGEST_NAME), data)
            long_name = _long_name(extended) if kind == b"L" else _pax_path(extended) or long_name
        elif kind not in PASSED_OVER:
            if kind == b"S":
                raise DamagedTar(f"unusable: {long_name or name!r} is a sparse file")
            if kind in FILES:
                yield Member(long_name or name, data, size)
            long_name = ""


def _parse(header: bytes) -> tuple[bytes, str, int]:
    """Return type, name and size from a header; raises ValueError where it is none."""
    checksum = int(header[148:156].rstrip(b"\0 "), 8)
    if sum(header) - sum(header[148:156]) + 8 * 32 != checksum:
        raise ValueError("the checksum does not hold")
    size = header[124:136]
    large = size[0] & 0x80  # GNU's way of writing what eleven octal digits cannot hold
    length = int.from_bytes(size[1:], "big") if large else int(size.rstrip(b"\0 ") or b"0", 8)
    if length < 0:
        raise ValueError("negative size")
    if header[156:157] in NO_DATA:
        length = 0
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:  # POSIX has more room for folders
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return header[156:157], os.fsdecode(name), length


def _long_name(data: bytes) -> str:
    return os.fsdecode(data.partition(b"\0")[0])


def _pax_path(data: bytes) -> str:
    """Return the path in an extended header, records of "length key=value\\n"; "" where it has none."""
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            raise DamagedTar("damaged in an extended header")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            return os.fsdecode(value)
        if key == b"size":
            raise DamagedTar("a member has its size in an extended header")
        data = data[int(length) :]
    return ""
