"""STL-10 from the official binaries, each image read by its offset.

stl10_binary/class_names.txt     a name a line
stl10_binary/train_X.bin         96x96 RGB images of 27,648 bytes: red column by column, then green, then blue
stl10_binary/train_y.bin         a byte an image: 1 for the first class
stl10_binary/test_X.bin, test_y.bin
stl10_binary/unlabeled_X.bin     may be missing
"""

import os

from ccscale.data.sources.classes import text_lines
from ccscale.data.sources.contents import FilePart, Layout, RawPixels
from ccscale.data.sources.items import Item, Source, numbered_key
from ccscale.errors import InputError

LAYOUT = Layout((3, 96, 96), (2, 1, 0))
IMAGE_BYTES = 3 * 96 * 96
FOLDER = "stl10_binary"
LABELLED, UNLABELLED = ("train", "test"), "unlabelled"


def stl10(path: str | os.PathLike[str]) -> Source:
    """List STL-10: splits ``train``, ``test`` and, if its file exists, ``unlabelled``.

    Parameters
    ----------
    path
        ``stl10_binary``, or the folder that holds it.

    Raises
    ------
    InputError
        If a file is missing or has another size than it should, or a label is none.
    """
    root = os.path.realpath(path)
    if os.path.isfile(root):
        raise InputError(
            f"{path} is a file, and images are read from the folder {FOLDER} by their offsets: "
            "extract the archive first and name that folder"
        )
    if os.path.isdir(os.path.join(root, FOLDER)):
        root = os.path.join(root, FOLDER)
    for name in ("class_names.txt", *(f"{split}_{part}.bin" for split in LABELLED for part in "Xy")):
        if not os.path.isfile(os.path.join(root, name)):
            raise InputError(
                f"{path} is no STL-10: it has no {name}; name the folder {FOLDER} of the archive"
            )

    classes = tuple(text_lines(os.path.join(root, "class_names.txt")))
    splits = {
        split: _items(root, split, f"{split}_X.bin", _labels(root, split, classes)) for split in LABELLED
    }
    if os.path.isfile(os.path.join(root, "unlabeled_X.bin")):
        splits[UNLABELLED] = _items(root, UNLABELLED, "unlabeled_X.bin", None)
    return Source("stl10", "stl10", classes, classes, splits)


def _labels(root: str, split: str, classes: tuple[str, ...]) -> list[int]:
    path = os.path.join(root, f"{split}_y.bin")
    with open(path, "rb") as file:
        labels = file.read()
    for row, label in enumerate(labels):
        if not 1 <= label <= len(classes):
            raise InputError(
                f"{path} has the label {label} at byte {row}, and labels are 1 to {len(classes)}: "
                "extract the archive again"
            )
    return [label - 1 for label in labels]


def _items(root: str, split: str, name: str, labels: list[int] | None) -> list[Item]:
    path = os.path.join(root, name)
    count, rest = divmod(os.stat(path).st_size, IMAGE_BYTES)
    if rest or not count:
        raise InputError(
            f"{path} has {os.stat(path).st_size:,} bytes, which is no whole number of images of "
            f"{IMAGE_BYTES:,} bytes: extract the archive again"
        )
    if labels is not None and len(labels) != count:
        raise InputError(f"{path} has {count:,} images and {len(labels):,} labels: extract the archive again")
    return [
        Item(
            numbered_key(split, number),
            RawPixels(FilePart(path, number * IMAGE_BYTES, IMAGE_BYTES), LAYOUT),
            None if labels is None else labels[number],
            f"{name}[{number}]",
        )
        for number in range(count)
    ]
