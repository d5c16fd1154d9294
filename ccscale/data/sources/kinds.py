"""Where images come from: each kind of source lists its images, splits and classes in the same way.

A kind is a function that returns a `Source`, registered in `KINDS` with the options that it takes; its layout is in
its own module. Listing reads names and headers, never pixels that need decoding: a folder of a million files takes
seconds.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ccscale.data.sources.cifar import cifar10, cifar100
from ccscale.data.sources.digits import digits
from ccscale.data.sources.folders import folder
from ccscale.data.sources.idx import idx
from ccscale.data.sources.imagenet import imagenet
from ccscale.data.sources.items import Source
from ccscale.data.sources.stl10 import stl10
from ccscale.data.sources.table import table
from ccscale.data.sources.tiny_imagenet import tiny_imagenet
from ccscale.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of source: the function that opens it, and its options."""

    open: Callable[..., Source]
    about: str
    needs_path: bool = True
    options: frozenset[str] = frozenset()


KINDS: dict[str, Kind] = {
    "folder": Kind(
        folder, "a folder of images, of classes, or of splits", options=frozenset({"split", "labels"})
    ),
    "tiny-imagenet": Kind(tiny_imagenet, "Tiny-ImageNet as its archive extracts"),
    "imagenet": Kind(
        imagenet, "ILSVRC2012_img_train.tar, or a folder of its classes", options=frozenset({"classes"})
    ),
    "cifar10": Kind(cifar10, "cifar-10-python.tar.gz, or its folder"),
    "cifar100": Kind(cifar100, "cifar-100-python.tar.gz, or its folder", options=frozenset({"coarse"})),
    "stl10": Kind(stl10, "the folder stl10_binary of its archive"),
    "idx": Kind(idx, "a folder of files in MNIST's format", options=frozenset({"classes"})),
    "table": Kind(
        table,
        "a .parquet, .csv or .tsv with a column of paths, URLs or images",
        options=frozenset({"path_column", "label_column", "key_column", "split", "labels"}),
    ),
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
        Passed on to the kind; only those it takes, see `KINDS`.

    Raises
    ------
    InputError
        For an unknown kind, a missing or needless `source`, an option that the kind does not take, and
        whatever is wrong in the source.
    """
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise InputError(f"{kind!r} is not a kind of source{hint}")
    known = KINDS[kind]
    for name in options:
        if name not in known.options:
            takers = ", ".join(other for other, entry in KINDS.items() if name in entry.options)
            raise InputError(
                f"the kind {kind} has no option {name!r}: leave it out (it is for {takers or 'none'})"
            )
    if known.needs_path and source is None:
        raise InputError(f"the kind {kind} needs a SOURCE: give the folder or file to read, before OUT")
    if not known.needs_path and source is not None:
        raise InputError(f"the kind {kind} reads no SOURCE: leave out {source}")
    try:
        return known.open(source, **options) if known.needs_path else known.open(**options)
    except OSError as error:
        raise InputError(
            f"{error.filename or source} cannot be read ({error.strerror or error}): check the path and "
            "its permissions"
        ) from None
