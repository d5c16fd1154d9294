"""Tiny-ImageNet, or some of its classes, in the layout of its archive.

train/<wnid>/images/*.JPEG
val/images/*.JPEG           with val/val_annotations.txt: file, wnid, box
val/<wnid>/…/*.JPEG         or sorted into folders of classes, as many scripts do it
test/images/*.JPEG          without labels
wnids.txt                   a wnid a line
words.txt                   a wnid, a tab and its synonyms a line
"""

import os
import re

from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.sources.classes import synset_names, text_lines
from ccscale.data.sources.folders import file_item, image_files
from ccscale.data.sources.items import Item, Source, source_of_files
from ccscale.errors import InputError

KNOWN = re.compile(r".*_boxes\.txt|val_annotations\.txt")  # of the archive


def tiny_imagenet(path: str | os.PathLike[str]) -> Source:
    """List Tiny-ImageNet (or some of its classes) in the layout of its archive.

    Labels count the wnids of ``wnids.txt`` in sorted order; a class is named by its first synonym in
    ``words.txt``, or its wnid. The test images have no labels.

    Raises
    ------
    InputError
        If files are missing or contradict each other.
    """
    root = os.path.realpath(path)
    if not os.path.isfile(os.path.join(root, "wnids.txt")):
        raise InputError(
            f"{path} is no Tiny-ImageNet: it has no wnids.txt; name the folder that holds it, train/ and val/"
        )
    wnids = sorted(text_lines(os.path.join(root, "wnids.txt")))
    names = synset_names(root)
    classes = tuple(names.get(wnid, wnid) for wnid in wnids)
    index = {wnid: number for number, wnid in enumerate(wnids)}
    splits: dict[str, list[Item]] = {}
    passed = SkippedFiles(KNOWN)

    if os.path.isdir(os.path.join(root, "train")):
        splits["train"] = []
        for wnid in wnids:
            images = _images_in(root, f"train/{wnid}", passed)
            if not images:
                raise InputError(
                    f"{path}/train/{wnid} holds no images though wnids.txt lists {wnid}: the copy is "
                    "incomplete: extract the archive again"
                )
            splits["train"] += [file_item(root, name, index[wnid]) for name in images]
    if images := _images_in(root, "val", passed):
        wnid_of = _annotations(root)
        splits["val"] = []
        for name in images:
            above, base = name.split("/")[1], os.path.basename(name)
            wnid = above if above in index else wnid_of.get(base, "")
            if wnid not in index:
                raise InputError(
                    f"{path}/{name} has no class from wnids.txt, neither in val/val_annotations.txt nor by its "
                    "folder: extract the archive again"
                )
            splits["val"].append(file_item(root, name, index[wnid]))
    if images := _images_in(root, "test", passed):
        splits["test"] = [file_item(root, name, None) for name in images]
    if not splits:
        raise InputError(f"{path} has no images in train/, val/ or test/: extract the archive again")
    return source_of_files(root, "tiny-imagenet", classes, wnids, splits, passed)


def _annotations(root: str) -> dict[str, str]:
    """Return the wnids of the validation images by their files' names; {} where no file tells."""
    path = os.path.join(root, "val/val_annotations.txt")
    lines = text_lines(path) if os.path.exists(path) else []
    return {fields[0]: fields[1] for fields in (line.split("\t") for line in lines) if len(fields) > 1}


def _images_in(root: str, place: str, passed: SkippedFiles) -> list[str]:
    """List the images in a folder and below, relative to `root`; none where there is no such folder."""
    return list(image_files(root, f"{place}/", passed)) if os.path.isdir(os.path.join(root, place)) else []
