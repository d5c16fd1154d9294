"""Names of splits, as folders and tars have them.

train/00000.tar, train-000000.tar, imagenet1k-train-0000.tar, train.tar         train
val/shard-07.tar, coco_val2017-3.tar                                            val
photos-01.tar                                                                   photos
00000.tar, laion2B-en-00000.tar                                                 train
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from ccscale.errors import InputError

UNLABELLED_SPLITS = frozenset(["unlabeled", "unlabelled"])
TRAINING_SPLITS = frozenset(["train", "training"])
SPLIT_NAMES = (
    UNLABELLED_SPLITS
    | TRAINING_SPLITS
    | {
        "val",
        "valid",
        "validation",
        "dev",
        "test",
        "holdout",
    }
)

_WORD = re.compile("[A-Za-z]+")
_PREFIX = re.compile(r"([A-Za-z]\w*?)[-_]?\d+")  # photos-000000


def check_split(name: str, place: str) -> None:
    """Raise InputError, with its place, for an invalid split name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InputError(
            f"{place} {name!r} cannot be used in names of shards: use letters, digits, '_' and '-'"
        )


def split_of(tar: str) -> str:
    """Return a tar's split from its name, relative with '/'.

    The last word of the file's name that is one of `SPLIT_NAMES`, else that of the nearest folder that has one;
    else what stands before the file's number; else ``train``.
    """
    stem = tar.removesuffix(".tar")
    for part in reversed(stem.split("/")):
        for word in reversed(_WORD.findall(part)):
            if word.lower() in SPLIT_NAMES:
                return word.lower()
    found = _PREFIX.fullmatch(stem.rpartition("/")[2])
    return found[1] if found else "train"


def splits_of(tars: Sequence[str], asked: Iterable[str] = ()) -> dict[str, str]:
    """Return each tar's split.

    Parameters
    ----------
    tars
        Their names, relative with '/'.
    asked
        ``NAME``, the split of all; or ``PATTERN=NAME``, of those whose names (or whose files' names) match: the
        first that matches counts. What none speaks of goes by `split_of`.

    Raises
    ------
    InputError
        For a name that none can have, or a pattern that matches no tar.
    """
    rules = []
    for text in asked:
        pattern, mark, name = text.rpartition("=")
        check_split(name, "--split")
        if mark and not any(_matches(tar, pattern) for tar in tars):
            raise InputError(
                f"--split {text!r}: no tar matches {pattern!r}, for example {tars[0]!r} does not: write "
                "'*' for the part that differs"
            )
        rules.append((pattern if mark else "*", name))
    return {
        tar: next((name for pattern, name in rules if _matches(tar, pattern)), None) or split_of(tar)
        for tar in tars
    }


def describe(splits: Mapping[str, str]) -> list[str]:
    """Return a line for each split: its tars, by the first and the last of them."""
    grouped: dict[str, list[str]] = {}
    for tar, split in splits.items():
        grouped.setdefault(split, []).append(tar)
    return [
        f"split {split}: {tars[0]}" + (f" to {tars[-1]}, {len(tars):,} tars" if len(tars) > 1 else "")
        for split, tars in grouped.items()
    ]


def _matches(tar: str, pattern: str) -> bool:
    return fnmatchcase(tar, pattern) or fnmatchcase(tar.rpartition("/")[2], pattern)
