"""MNIST's format IDX, as MNIST, Fashion-MNIST and Kuzushiji-MNIST have it, compressed by gzip or not.

SOURCE/train-images-idx3-ubyte[.gz]   the training images (or train-images.idx3-ubyte)
SOURCE/train-labels-idx1-ubyte[.gz]   their labels; without the file they have none
SOURCE/t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]   the test's

An IDX file begins with two zero bytes, a byte for the type (8: unsigned byte) and one for the number of dimensions,
then the length of each as 4 bytes, the highest first; the values follow, the last dimension running fastest.
Images are (number, rows, columns), or (number, rows, columns, 3) for RGB.
"""

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from ccscale.data.sources.classes import listed_classes
from ccscale.data.sources.contents import Bytes, FilePart, Layout, RawPixels
from ccscale.data.sources.items import Item, Source, numbered_key
from ccscale.errors import InputError

PARTS = {"train": "train", "test": "t10k"}  # split to the files' name
UNSIGNED_BYTE = 8
LONGEST_SIDE = 65_535
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def idx(path: str | os.PathLike[str], classes: str | None = None) -> Source:
    """List a folder of IDX files: splits ``train`` and ``test``, or the existing one.

    Parameters
    ----------
    path
        The folder.
    classes
        Names with commas between them, or a text file with one a line. By default the labels' numbers, and for
        Fashion-MNIST, told from the path, its own names.

    Raises
    ------
    InputError
        If there are no such files, one is damaged or of another type, or a label has no class.
    """
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        raise InputError(f"there is no folder {path}; SOURCE must be a folder of IDX files")
    labels: dict[str, bytes | None] = {}
    splits: dict[str, list[Item]] = {}
    for split, part in PARTS.items():
        images = _find(root, f"{part}-images", "3|4")
        if images is None:
            continue
        beside = _find(root, f"{part}-labels", "1")
        labels[split] = None if beside is None else _read_labels(beside)
        splits[split] = _items(images, split, labels[split])
    if not splits:
        raise InputError(
            f"{path} holds neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte, with or without .gz: "
            "name the folder that does"
        )
    largest = max((max(found, default=-1) for found in labels.values() if found is not None), default=-1)
    names = _class_names(classes, largest, root, str(path))
    return Source(os.path.basename(root) or "idx", "idx", names, names, splits)


def _class_names(classes: str | None, largest: int, root: str, path: str) -> tuple[str, ...]:
    if classes is not None:
        names = tuple(listed_classes(classes))
        if largest >= len(names):
            raise InputError(
                f"--classes names {len(names)} classes, and {path} has the label {largest}: name all"
            )
        return names
    if "fashionmnist" in re.sub(r"[^a-z]", "", root.lower()) and 0 <= largest < len(FASHION):
        return FASHION
    return tuple(str(label) for label in range(largest + 1))


def _find(root: str, name: str, dimensions: str) -> str | None:
    """Return the path of a file, preferring one that is not compressed."""
    pattern = re.compile(rf"{name}[-.]idx({dimensions})-ubyte(\.gz)?")
    found = sorted(filter(pattern.fullmatch, os.listdir(root)), key=lambda file: (file.endswith(".gz"), file))
    return os.path.join(root, found[0]) if found else None


def _read_labels(path: str) -> bytes:
    with _open(path) as file:
        shape = _read_header(file, path)
        if len(shape) != 1:
            raise InputError(
                f"{path} has {len(shape)} dimensions, and labels have 1: download the file again"
            )
        labels = _read(file, path, -1)
    if len(labels) != shape[0]:
        raise _other_length(path, shape[0])
    return labels


def _items(path: str, split: str, labels: bytes | None) -> list[Item]:
    name = os.path.basename(path)
    with _open(path) as file:
        shape = _read_header(file, path)
        colour = len(shape) == 4 and shape[3] == 3
        if len(shape) != 3 and not colour:
            raise InputError(
                f"{path} has the dimensions {shape}, and images have (number, rows, columns) or, in colour, "
                "(number, rows, columns, 3): convert it"
            )
        count, size = shape[0], math.prod(shape[1:])
        if not all(1 <= side <= LONGEST_SIDE for side in shape[1:]) or not count:
            raise InputError(
                f"{path} has the dimensions {shape}, which are no images: download the file again"
            )
        if labels is not None and len(labels) != count:
            raise InputError(
                f"{path} has {count:,} images and {len(labels):,} labels: download both files again"
            )
        start = 4 + 4 * len(shape)
        contents: Iterator[Bytes | FilePart]
        if _is_compressed(path):
            contents = map(Bytes, _read_values(file, path, size, count))
        elif os.stat(path).st_size != start + count * size:
            raise _other_length(path, count * size)
        else:
            contents = (FilePart(path, start + number * size, size) for number in range(count))
        layout = Layout(shape[1:], (0, 1, 2) if colour else (0, 1))
        return [
            Item(
                numbered_key(split, number),
                RawPixels(content, layout),
                None if labels is None else labels[number],
                f"{name}[{number}]",
            )
            for number, content in enumerate(contents)
        ]


def _is_compressed(path: str) -> bool:
    return path.endswith(".gz")


def _open(path: str) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if _is_compressed(path) else open(path, "rb"))


def _read_header(file: BinaryIO, path: str) -> tuple[int, ...]:
    """Return the lengths of an IDX file's dimensions."""
    start = _read(file, path, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or not start[3]:
        raise InputError(f"{path} is no IDX file: it does not begin with two zero bytes and a type")
    if start[2] != UNSIGNED_BYTE:
        raise InputError(f"{path} has values of type {start[2]:#04x}, not unsigned bytes (0x08): convert it")
    lengths = _read(file, path, 4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise InputError(f"{path} is cut off in its header: download the file again")
    return tuple(int.from_bytes(lengths[at : at + 4], "big") for at in range(0, len(lengths), 4))


def _read_values(file: BinaryIO, path: str, size: int, count: int) -> Iterator[bytes]:
    """Yield `count` stretches of `size` bytes, and make sure that nothing follows."""
    for _ in range(count):
        data = _read(file, path, size)
        if len(data) < size:
            raise _other_length(path, size * count)
        yield data
    if _read(file, path, 1):
        raise _other_length(path, size * count)


def _read(file: BinaryIO, path: str, size: int) -> bytes:
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged or cut off ({error}): download the file again") from None


def _other_length(path: str, values: int) -> InputError:
    return InputError(
        f"{path} does not hold the {values:,} values that its header tells of: download the file again"
    )
