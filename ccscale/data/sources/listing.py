"""Images that are named one by one or by their folders, to be read where they are: no shards are made of them.

They are listed as a manifest lists shards, `PIECE` files a piece, so that whatever goes over shards goes over them.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ccscale.data.shards.keys import escaped
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.sources.folders import image_files
from ccscale.errors import InputError

SPLIT = "images"
PIECE = 1024
STANDARD_INPUT = "-"
LIST = ".txt"


@dataclass(frozen=True)
class ImageListing:
    """Files of images, each once, in a fixed order.

    Attributes
    ----------
    names
        As they were asked for, as valid text; those in a folder begin with its name.
    paths
        Where they are: absolute, in the bytes that the system has for them.
    manifest
        Pieces of files instead of shards; each has the hash of its files' paths, sizes and times.
    passed
        What lies in the folders and is no image.
    """

    names: pa.LargeStringArray
    paths: pa.LargeBinaryArray
    manifest: Manifest
    passed: SkippedFiles


def list_images(places: Sequence[str]) -> ImageListing:
    """List images.

    Parameters
    ----------
    places
        Folders, as `shards make folder` lists them; files, whatever their endings are; files that end in ``.txt``
        and name files, a path a line; ``-`` for such a list on standard input. What is named twice is there once.

    Raises
    ------
    InputError
        If one is not there, or there are no images. A path of a list is not looked for here.
    """
    passed = SkippedFiles()
    named: dict[str, str] = {}
    try:
        for place in places:
            for name in _files(place, passed):
                named.setdefault(os.path.abspath(name), name)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}): check the path and its permissions"
        ) from None
    if not named:
        beside = f"; {passed}" if passed.kinds else ""
        raise InputError(f"{', '.join(places)}: no images found{beside}; check the path")
    paths = [os.fsencode(path) for path in named]
    return ImageListing(
        pa.array(map(escaped, named.values()), pa.large_string()),
        pa.array(paths, pa.large_binary()),
        Manifest(
            "", "images", tuple(_pieces(paths)), classes=(), class_ids=(), labelled={SPLIT: 0}, made_by={}
        ),
        passed,
    )


def _files(place: str, passed: SkippedFiles) -> Iterator[str]:
    """Yield the files that a place stands for."""
    if place == STANDARD_INPUT:
        yield from _lines(sys.stdin.buffer)
    elif os.path.isdir(place):
        yield from (os.path.join(place, name) for name in image_files(os.path.realpath(place), passed=passed))
    elif not os.path.lexists(place):
        raise InputError(f"there is no file or folder {place}; --images accepts images, folders and lists")
    elif place.endswith(LIST):
        with open(place, "rb") as file:
            yield from _lines(file)
    else:
        yield place


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    yield from (os.path.expanduser(os.fsdecode(line)) for raw in file if (line := raw.rstrip(b"\r\n")))


def _pieces(paths: Sequence[bytes]) -> Iterator[Shard]:
    for number, start in enumerate(range(0, len(paths), PIECE)):
        some, digest, size = paths[start : start + PIECE], hashlib.sha256(), 0
        for path in some:
            bytes_, time = _stamp(path)
            digest.update(b"%s\0%d\0%d\0" % (path, bytes_, time))
            size += bytes_
        yield Shard(f"{SPLIT}-{number:06d}", len(some), size, digest.hexdigest(), SPLIT)


def _stamp(path: bytes) -> tuple[int, int]:
    """Return a file's size and modification time; zeros if it is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
