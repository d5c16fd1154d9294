"""Tiny-ImageNet, or some of its classes, in the layout of its archive.

train/<wnid>/images/*.JPEG
val/images/*.JPEG           with val/val_annotations.txt: file, wnid, box
test/images/*.JPEG          without labels
wnids.txt                   a wnid a line
words.txt                   a wnid, a tab and its synonyms a line
"""

import os

from ccscale.data.sources.classes import synset_names, text_lines
from ccscale.data.sources.folders import file_item, image_files
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError


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
        lines = text_lines(os.path.join(root, "val/val_annotations.txt"))
        annotations = (line.split("\t") for line in lines)
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


def _images_in(root: str, place: str) -> list[str]:
    """List the images directly in a folder, relative to `root`; none where there is no such folder."""
    if not os.path.isdir(os.path.join(root, place)):
        return []
    return [name for name in image_files(root, f"{place}/") if name.count("/") == place.count("/") + 1]
