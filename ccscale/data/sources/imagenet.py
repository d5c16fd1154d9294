"""ImageNet: its training archive as it is, the tars of its classes, or folders of classes.

ILSVRC2012_img_train.tar             n########.tar for each class, each with JPEGs: read where they lie
SOURCE/n########.tar                 the same, after the first extraction
SOURCE/n########/*.JPEG              after the second
SOURCE/train/…, SOURCE/val/…         either for both splits
LOC_synset_mapping.txt, words.txt    beside them, if there: the classes' names
"""

import os
import posixpath
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

from ccscale.data.images.extensions import is_image
from ccscale.data.shards.annotations import Member
from ccscale.data.shards.errors import CompressedTar, ShardError
from ccscale.data.shards.keys import escaped
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.shards.tar_reader import tar_members
from ccscale.data.sources.classes import WNID, listed_classes, synset_names
from ccscale.data.sources.contents import FilePart
from ccscale.data.sources.folders import file_item, image_files
from ccscale.data.sources.items import Item, Source, source_of_files
from ccscale.errors import InputError, did_you_mean
from ccscale.progress import Meter, say

SUBSETS = {  # as in the Contrastive Clustering paper: wnids, training images in a full copy
    "imagenet-10": (
        "n02056570 n02085936 n02128757 n02690373 n02692877 n03095699 n04254680 n04285008 n04467665 n07747607",
        13_000,
    ),
    "imagenet-dogs": (
        "n02085936 n02086646 n02088238 n02091467 n02097130 n02099601 n02101388 n02101556 n02102177 n02105056 "
        "n02105412 n02105855 n02107142 n02110958 n02112137",
        19_500,
    ),
}
READERS = 8  # threads: on a network's file system a tar's listing is waiting


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the images of a class lie: a folder, or a stretch of a file that is a tar.

    Attributes
    ----------
    name
        Relative to the source, for keys and people.
    path, offset, size
        Of the folder or the file; `size` is None for a folder.
    """

    name: str
    path: str
    offset: int = 0
    size: int | None = None


def imagenet(path: str | os.PathLike[str], classes: str | None = None) -> Source:
    """List ImageNet, or some of its classes, by names and headers alone.

    Labels count the wnids in sorted order.

    Parameters
    ----------
    path
        ``ILSVRC2012_img_train.tar``, or a folder of class tars or of class folders, or one with either in
        ``train/`` and, if it is there, ``val/``.
    classes
        ``"imagenet-10"``, ``"imagenet-dogs"``, wnids with commas between them, or a text file with one a line.
        By default all that are there.

    Raises
    ------
    InputError
        If the layout is none of these, a class is missing or empty, or a tar is damaged or compressed.
    """
    root = os.path.realpath(path)
    wanted = _wanted(classes)
    if os.path.isdir(root):
        split_places, tables = _in_folder(root, str(path)), root
    elif os.path.isfile(root):
        split_places, tables = {"train": _in_archive(root, str(path))}, os.path.dirname(root)
    else:
        raise InputError(f"there is no file or folder {path}; SOURCE must be ImageNet's archive or a folder")

    here = set(split_places["train"])
    missing = sorted(set(wanted or ()) - here)
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the classes that --classes asks for ({', '.join(missing)}): "
            "get them, or leave them out"
        )
    wnids = sorted(wanted or here)
    index = {wnid: label for label, wnid in enumerate(wnids)}
    splits, passed = {}, SkippedFiles()
    for split, places in split_places.items():
        known = {wnid: places[wnid] for wnid in wnids if wnid in places}
        splits[split] = _items(known, index, passed)
    if "val" not in splits and os.path.isdir(os.path.join(root, "val")):
        for left_out in image_files(root, "val/", passed):
            passed.add(left_out, "images of val/, in no folders of classes")
    _check_counts(splits["train"], index, classes, str(path))
    names = synset_names(tables)
    name = classes if classes in SUBSETS else "imagenet"
    return source_of_files(name, "imagenet", [names.get(wnid, wnid) for wnid in wnids], wnids, splits, passed)


def _wanted(classes: str | None) -> list[str] | None:
    """Return the wnids that the user asks for, None for all."""
    if classes is None:
        return None
    if classes in SUBSETS:
        return SUBSETS[classes][0].split()
    wnids = listed_classes(classes)
    for wnid in wnids:
        if not WNID.fullmatch(wnid):
            hint = did_you_mean(wnid, SUBSETS) or f"; {' and '.join(SUBSETS)} are known by name"
            raise InputError(f"--classes: {wnid!r} is no WordNet id (an n and eight digits){hint}")
    return wnids


def _in_folder(root: str, path: str) -> dict[str, dict[str, _Place]]:
    """Return split to wnid to place."""
    top = _class_places(root, "")
    if top:
        return {"train": top}
    train = _class_places(root, "train/")
    if not train:
        raise InputError(
            f"{path} holds no classes (n######## folders or tars, there or in train/): "
            "name the training archive or the folder that it was extracted to"
        )
    val = _class_places(root, "val/")
    if val:
        return {"train": train, "val": val}
    if os.path.isdir(os.path.join(root, "val")):
        say(f"{path}/val is left out: its images do not lie in folders of classes")
    return {"train": train}


def _class_places(root: str, prefix: str) -> dict[str, _Place]:
    """Find class folders and class tars directly in a folder."""
    places: dict[str, _Place] = {}
    if not os.path.isdir(os.path.join(root, prefix)):
        return places
    for name in sorted(os.listdir(os.path.join(root, prefix))):
        path, wnid = os.path.join(root, prefix, name), name.removesuffix(".tar")
        if not WNID.fullmatch(wnid) or os.path.isdir(path) != (wnid == name):
            continue
        if wnid in places:
            raise InputError(f"{path} lies beside a folder of the same class: move one of them away")
        is_tar = wnid != name
        places[wnid] = _Place(prefix + name, path, 0, os.stat(path).st_size if is_tar else None)
    return places


def _in_archive(root: str, path: str) -> dict[str, _Place]:
    """Find the class tars inside the training archive."""
    found = _members(_Place(path, root, 0, os.stat(root).st_size))
    places: dict[str, _Place] = {}
    for member in found:
        wnid, extension = posixpath.splitext(posixpath.basename(member.name))
        if WNID.fullmatch(wnid) and extension == ".tar":
            places[wnid] = _Place(f"{wnid}.tar", root, member.offset, member.size)
    if not places:
        raise InputError(f"{path} holds no tars of classes (n########.tar): name ILSVRC2012_img_train.tar")
    return places


def _items(places: dict[str, _Place], index: dict[str, int], passed: SkippedFiles) -> list[Item]:
    """List the images of the classes, class by class, each class by name."""

    def listed(entry: tuple[str, _Place]) -> tuple[list[Item], SkippedFiles]:
        wnid, place = entry
        beside = SkippedFiles()
        how = _in_class_folder if place.size is None else _in_class_tar
        return how(place, index[wnid], beside), beside

    items: list[Item] = []
    show = any(place.size is not None for place in places.values())
    with (
        Meter("reading the tars' headers", len(places), "classes", show) as meter,
        ThreadPoolExecutor(READERS) as threads,
    ):
        for images, beside in threads.map(listed, places.items()):
            items += images
            passed.join(beside)
            meter.advance()
    return items


def _in_class_folder(place: _Place, label: int, passed: SkippedFiles) -> list[Item]:
    root = place.path[: -len(place.name)].rstrip("/")
    return [file_item(root, name, label) for name in image_files(root, f"{place.name}/", passed)]


def _in_class_tar(place: _Place, label: int, passed: SkippedFiles) -> list[Item]:
    folder = place.name.removesuffix(".tar")
    items = []
    for member in sorted(_members(place), key=lambda member: os.fsencode(member.name)):
        base = posixpath.basename(member.name)
        if is_image(base) and not base.startswith("."):
            stem = escaped(base.rpartition(".")[0].replace(".", "_"))
            content = FilePart(place.path, member.offset, member.size)
            items.append(Item(f"{folder}/{stem}", content, label, escaped(f"{folder}/{base}")))
        else:
            passed.add(f"{folder}/{base}")
    return items


def _members(place: _Place) -> list[Member]:
    """Return the files in a tar, by their places in the file that it lies in; or say what is wrong with it."""
    found = []
    try:
        with open(place.path, "rb", buffering=0) as file:
            for member in tar_members(cast(BinaryIO, file), place.name, place.offset, place.size):
                if member.issparse():
                    raise ShardError(place.name, f"the member {member.name!r} is sparse")
                if member.isreg():
                    found.append(Member(member.name, place.offset + member.offset_data, member.size))
    except CompressedTar as error:
        raise InputError(f"{place.name}: {error.what}") from None
    except ShardError as error:
        if isinstance(error.__context__, OSError):  # the file cannot be read, whatever is in it
            raise error.__context__ from None
        raise InputError(f"{place.name} in {place.path}: {error.what}: download it again") from None
    return found


def _check_counts(items: list[Item], index: dict[str, int], classes: str | None, path: str) -> None:
    """Refuse classes without images; tell if a known subset is not as large as it is in a full copy."""
    counts = Counter(item.label for item in items)
    for wnid, label in index.items():
        if not counts[label]:
            raise InputError(
                f"{path} holds no images of the class {wnid}: download it again, or leave it out"
            )
    if classes in SUBSETS and len(items) != SUBSETS[classes][1]:
        say(
            f"{path} holds {len(items):,} images of {classes}, which has {SUBSETS[classes][1]:,}: a partial copy?"
        )
