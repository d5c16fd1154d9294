"""CIFAR-10 and CIFAR-100 from the official python archives, or the folders that they extract to.

cifar-10-batches-py/batches.meta              label_names, num_cases_per_batch
cifar-10-batches-py/data_batch_1 … 5          data (N, 3072) uint8, labels
cifar-10-batches-py/test_batch
cifar-100-python/meta                         fine_label_names, coarse_label_names
cifar-100-python/train, test                  data, fine_labels, coarse_labels

A row of `data` is an image: 32x32 red values, row by row, then green, then blue.
"""

import gzip
import os
import posixpath
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.tar_reader import tar_members
from ccscale.data.sources.contents import Bytes, Layout, RawPixels
from ccscale.data.sources.items import Item, Source, numbered_key
from ccscale.data.sources.plain_pickle import PickledArray, PickleRefused, load
from ccscale.errors import InputError

LAYOUT = Layout((3, 32, 32), (1, 2, 0))
IMAGE_BYTES = 3 * 32 * 32
ARCHIVES = {"cifar-10-batches-py": "cifar-10-python.tar.gz", "cifar-100-python": "cifar-100-python.tar.gz"}


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch file: images of 3,072 bytes each, and their labels."""

    images: list[bytes]
    labels: list[int]


def cifar10(path: str | os.PathLike[str]) -> Source:
    """List CIFAR-10: splits ``train`` and ``test``.

    Parameters
    ----------
    path
        ``cifar-10-python.tar.gz``, ``cifar-10-batches-py`` or the folder that holds the latter.

    Raises
    ------
    InputError
        If a file is missing, damaged, or holds what CIFAR's files do not hold.
    """
    train = [f"data_batch_{number}" for number in range(1, 6)]
    found = _read(str(path), "cifar-10-batches-py", "batches.meta", [*train, "test_batch"], "labels")
    meta, batches = found
    names = _names(meta, "label_names", str(path))
    expected = meta.get("num_cases_per_batch")
    for name, batch in batches.items():
        if len(batch.images) != expected:
            raise InputError(
                f"{path}: {name} holds {len(batch.images):,} images and not {expected}, as batches.meta "
                "says: download the archive again"
            )
    parts = {"train": train, "test": ["test_batch"]}
    return _source("cifar10", names, parts, batches, str(path))


def cifar100(path: str | os.PathLike[str], coarse: bool = False) -> Source:
    """List CIFAR-100: splits ``train`` and ``test``.

    Parameters
    ----------
    path
        ``cifar-100-python.tar.gz``, ``cifar-100-python`` or the folder that holds the latter.
    coarse
        Take the 20 superclasses as the classes, not the 100 fine ones.

    Raises
    ------
    InputError
        As for `cifar10`.
    """
    level = "coarse" if coarse else "fine"
    meta, batches = _read(str(path), "cifar-100-python", "meta", ["train", "test"], f"{level}_labels")
    names = _names(meta, f"{level}_label_names", str(path))
    return _source("cifar100", names, {"train": ["train"], "test": ["test"]}, batches, str(path))


def _read(
    path: str, folder: str, meta: str, names: list[str], labels: str
) -> tuple[dict[str, Any], dict[str, _Batch]]:
    """Return the facts of the meta file, and the batches by name."""
    facts: dict[str, Any] | None = None
    batches = {}
    for name, data in _files(path, folder, {meta, *names}):
        try:
            found = load(data)
        except PickleRefused as error:
            raise InputError(f"{path}: {name} {error}: download {ARCHIVES[folder]} again") from None
        if not isinstance(found, dict):
            raise InputError(f"{path}: {name} holds no dictionary: download {ARCHIVES[folder]} again")
        if name == meta:
            facts = found
        else:
            batches[name] = _batch(found, labels, f"{path}: {name}")
    missing = [name for name in [meta, *names] if name not in batches and (name != meta or facts is None)]
    if facts is None or missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}: name {ARCHIVES[folder]} (the python version), or the folder "
            f"{folder} that it extracts to"
        )
    return facts, batches


def _files(path: str, folder: str, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the existing files."""
    if os.path.isdir(path):
        inside = os.path.join(path, folder)
        place = inside if os.path.isdir(inside) else path
        for name in sorted(names):
            if os.path.isfile(os.path.join(place, name)):
                with open(os.path.join(place, name), "rb") as file:
                    yield name, file.read()
        return
    try:
        with _open(path) as stream:
            for member in tar_members(stream, path):  # to its end, where gzip checks its sum
                name = posixpath.basename(member.name)
                if name in names and member.isreg():
                    stream.seek(member.offset_data)
                    yield name, stream.read(member.size)
    except FileNotFoundError:
        raise InputError(f"there is no file or folder {path}; SOURCE must be {ARCHIVES[folder]}") from None
    except (ShardError, EOFError, OSError, zlib.error) as error:
        what = error.what if isinstance(error, ShardError) else error
        raise InputError(
            f"{path} is no tar archive, or it is damaged ({what}): download {ARCHIVES[folder]} again"
        ) from None


def _open(path: str) -> BinaryIO:
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path) if compressed else open(path, "rb"))


def _batch(found: dict[str, Any], key: str, place: str) -> _Batch:
    array, labels = found.get("data"), found.get(key)
    pixels = array.uint8() if isinstance(array, PickledArray) else None
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != IMAGE_BYTES:
        raise InputError(f"{place} has no data of {IMAGE_BYTES:,} bytes an image: download the archive again")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise InputError(f"{place} has no list of numbers {key!r}: download the archive again")
    if len(labels) != len(pixels):
        raise InputError(
            f"{place} has {len(pixels):,} images and {len(labels):,} {key}: download the archive again"
        )
    return _Batch([row.tobytes() for row in pixels], labels)


def _names(meta: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    names = meta.get(key)
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: the meta file has no {key}: download the archive again")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)


def _source(
    kind: str, classes: tuple[str, ...], parts: dict[str, list[str]], batches: dict[str, _Batch], path: str
) -> Source:
    splits: dict[str, list[Item]] = {}
    for split, names in parts.items():
        items = splits[split] = []
        for name in names:
            for row, (image, label) in enumerate(
                zip(batches[name].images, batches[name].labels, strict=True)
            ):
                if not 0 <= label < len(classes):
                    raise InputError(
                        f"{path}: {name} has the label {label} in row {row}, and there are {len(classes)} "
                        "classes: download the archive again"
                    )
                key = numbered_key(split, len(items))
                items.append(Item(key, RawPixels(Bytes(image), LAYOUT), label, f"{name}[{row}]"))
    return Source(kind, kind, classes, classes, splits)
