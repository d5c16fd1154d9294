"""Where images come from: each kind of source lists its images, splits and classes in the same way.

A kind is a function that returns a `Source`, registered in `KINDS` with the options that it takes. Listing reads
names, never pixels: a folder of a million files takes seconds.

    folder         images, one sub-folder per class, or one folder per split with either in it (`folders.py`)
    tiny-imagenet  train/<wnid>/images/*.JPEG, val/images and val/val_annotations.txt, test/images,
                   wnids.txt, words.txt
    digits         scikit-learn's 1,797 handwritten digits, 8x8 grey; needs no files
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ccscale.data.contents import Bytes
from ccscale.data.folders import file_item, folder, image_files
from ccscale.data.items import Item, Source
from ccscale.errors import InputError, nearest


@dataclass(frozen=True)
class Kind:
    """A kind of source: the function that opens it and what that takes."""

    open: Callable[..., Source]
    about: str
    needs_path: bool = True
    options: frozenset[str] = frozenset()


def tiny_imagenet(path: str | os.PathLike[str]) -> Source:
    """List Tiny-ImageNet (or some of its classes) in the layout of its archive.

    Labels count the wnids of ``wnids.txt`` in sorted order; a class is named by its first synonym in
    ``words.txt``. The test images have no labels.

    Raises
    ------
    InputError
        If files are missing or contradict each other.
    """
    root = os.path.realpath(path)
    wnids = sorted(line for line in _lines(root, "wnids.txt") if line)
    words = dict(line.split("\t", 1) for line in _lines(root, "words.txt") if "\t" in line)
    classes = tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids)
    index = {wnid: number for number, wnid in enumerate(wnids)}
    splits: dict[str, list[Item]] = {}

    if os.path.isdir(os.path.join(root, "train")):
        splits["train"] = []
        for wnid in wnids:
            images = _images_in(root, f"train/{wnid}/images")
            if not images:
                raise InputError(
                    f"{path}/train/{wnid}/images holds no images though wnids.txt lists {wnid}: "
                    "the copy is incomplete, extract the archive again"
                )
            splits["train"] += [file_item(root, name, index[wnid]) for name in images]
    if images := _images_in(root, "val/images"):
        annotations = (line.split("\t") for line in _lines(root, "val/val_annotations.txt"))
        wnid_of = {fields[0]: fields[1] for fields in annotations if len(fields) > 1}
        splits["val"] = []
        for name in images:
            wnid = wnid_of.get(os.path.basename(name), "")
            if wnid not in index:
                raise InputError(
                    f"{path}/{name} has no class from wnids.txt in val/val_annotations.txt: "
                    "extract the archive again"
                )
            splits["val"].append(file_item(root, name, index[wnid]))
    if images := _images_in(root, "test/images"):
        splits["test"] = [file_item(root, name, None) for name in images]
    if not splits:
        raise InputError(
            f"{path} has neither train/ nor val/images nor test/images: extract the archive again"
        )
    return Source(os.path.basename(root), "tiny-imagenet", classes, tuple(wnids), splits)


def digits() -> Source:
    """Return scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes, one split."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (data.images * (255 / 16)).round().astype("uint8")  # values are 0..16
    items = []
    for number, (pixels, label) in enumerate(zip(grey, data.target, strict=True)):
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        items.append(Item(f"digit-{number:04d}", Bytes(png.getvalue()), int(label), f"load_digits[{number}]"))
    classes = tuple(str(digit) for digit in range(10))
    return Source("digits", "digits", classes, classes, {"train": items})


KINDS: dict[str, Kind] = {
    "folder": Kind(
        folder, "a folder of images, of classes, or of splits", options=frozenset({"split", "labels"})
    ),
    "tiny-imagenet": Kind(tiny_imagenet, "Tiny-ImageNet as its archive extracts"),
    "digits": Kind(digits, "scikit-learn's 8x8 digits; takes no SOURCE", needs_path=False),
}


def open_source(kind: str, source: str | os.PathLike[str] | None = None, **options: Any) -> Source:
    """Open a source by the name of its kind.

    Parameters
    ----------
    kind
        A name in `KINDS`.
    source
        The folder or file to read; None for a kind that needs none.
    **options
        Passed on to the kind (``split``, ``labels``); only those it takes.

    Raises
    ------
    InputError
        For an unknown kind, a missing or needless `source`, an option that the kind does not take, and
        whatever is wrong in the source.
    """
    if kind not in KINDS:
        hint = nearest(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise InputError(f"there is no kind of source {kind!r}{hint}")
    known = KINDS[kind]
    for name in options:
        if name not in known.options:
            takers = ", ".join(other for other, entry in KINDS.items() if name in entry.options)
            raise InputError(
                f"the kind {kind} takes no option {name!r}: leave it out (it is for {takers or 'none'})"
            )
    if known.needs_path and source is None:
        raise InputError(f"the kind {kind} needs a SOURCE: give the folder to read before OUT")
    if not known.needs_path and source is not None:
        raise InputError(f"the kind {kind} reads no SOURCE: leave out {source}")
    return known.open(source, **options) if known.needs_path else known.open(**options)


def _images_in(root: str, place: str) -> list[str]:
    """List the images directly in a folder, relative to `root`; none where there is no such folder."""
    if not os.path.isdir(os.path.join(root, place)):
        return []
    return [name for name in image_files(root, f"{place}/") if name.count("/") == place.count("/") + 1]


def _lines(root: str, name: str) -> list[str]:
    try:
        with open(os.path.join(root, name), encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        raise InputError(
            f"{root} is no Tiny-ImageNet: it has no {name}; name the folder that holds wnids.txt, train/ and val/"
        ) from None
