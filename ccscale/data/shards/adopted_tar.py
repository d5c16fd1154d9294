"""A tar that others made: read once, its index staged beside it until the labels of all tars are known."""

import functools
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ccscale import pool
from ccscale.config import MOST_CLASSES
from ccscale.data.shards import index
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.hashing import HashingReader
from ccscale.data.shards.keys import Digests, digests
from ccscale.data.shards.labels import ABSENT, UNKNOWN, Labels
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.scan import scan
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.pool import Tick
from ccscale.progress import Meter
from ccscale.regular import regular

STAGED = ".new"


@dataclass(frozen=True, slots=True)
class Label:
    """A text that labels samples of a tar: what stands for it in the index, how many have it, and one of them."""

    code: int
    count: int
    key: str


@dataclass(frozen=True, slots=True)
class AdoptedTar:
    """What a tar holds: its entry, digests of its keys, its labels by their texts, what was passed over."""

    shard: Shard
    keys: Digests
    labels: dict[str, Label]
    passed: SkippedFiles

    @property
    def labelled(self) -> int:
        return sum(label.count for text, label in self.labels.items() if text not in ABSENT)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the tars are and where their indexes go, the json's field of the labels, whether all must be used."""

    folder: str
    out: str
    field: str | None
    strict: bool

    def tar(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def index(self, name: str) -> str:
        return index.index_location(os.path.join(self.out, name))

    def staged(self, name: str) -> str:
        return self.index(name) + STAGED

    def links(self, name: str) -> list[str]:
        """Return the link to a tar, if there is to be one."""
        return [] if self.out == self.folder else [os.path.join(self.out, name)]


def adopt_tar(folders: Folders, tar: tuple[str, str], tick: Tick) -> AdoptedTar | ShardError:
    """Index one tar of a split, or return its error; runs in a worker process."""
    name, split = tar
    path = folders.tar(name)
    try:
        with open(path, "rb", opener=regular) as file:
            hashing = HashingReader(file, tick)
            found = scan(cast(BinaryIO, hashing), path, folders.field)
            sha256, size = hashing.finish()
    except ShardError as error:
        return error
    except OSError as error:
        return ShardError(path, f"it cannot be read: {error.strerror}")
    if folders.strict and found.passed.kinds:
        what = f"{found.passed.tell('member')}, as {found.passed.first!r}, which --strict refuses"
        return ShardError(path, what)
    counts = Counter(sample.text for sample in found.samples)
    keys = {sample.text: sample.key for sample in reversed(found.samples)}
    labels = {
        text: Label(_code(text, place), count, keys[text])
        for place, (text, count) in enumerate(sorted(counts.items()))
    }
    rows = [
        (sample.key, sample.ext, sample.offset, sample.size, labels[sample.text].code, sample.origin)
        for sample in found.samples
    ]
    index.write_index(folders.staged(name), index.ShardIndex.from_rows(rows))
    shard = Shard(name, len(rows), size, sha256, split)
    return AdoptedTar(shard, digests([row[0] for row in rows]), labels, found.passed)


def _code(text: str, place: int) -> int:
    """Return what stands for a label until all are known: a number if it is written as one, else one above all."""
    if text in ABSENT:
        return UNKNOWN
    number = int(text) if text.isdecimal() and len(text) < 9 else MOST_CLASSES
    return number if number < MOST_CLASSES and str(number) == text else MOST_CLASSES + place


def put_in_place(folders: Folders, found: list[AdoptedTar], labels: Labels, workers: int | None) -> None:
    """Give all indexes their labels and their names, and link the tars where that is wanted."""
    anew = []
    for tar in found:
        numbers = labels.numbers(tar.labels)
        codes = {label.code: numbers[text] for text, label in tar.labels.items()}
        if any(code != number for code, number in codes.items()):
            anew.append((tar.shard.url, codes))
    with Meter("naming classes", len(anew), "tars", show=False) as meter:
        pool.run(functools.partial(_relabel, folders), anew, meter, workers if len(anew) > 100 else 1)
    for tar in found:
        os.replace(folders.staged(tar.shard.url), folders.index(tar.shard.url))
        for link in folders.links(tar.shard.url):
            target = os.path.realpath(folders.tar(tar.shard.url))
            if os.path.realpath(link) != target:
                os.symlink(target, link)


def _relabel(folders: Folders, task: tuple[str, dict[int, int]], tick: Tick) -> None:
    """Replace the label codes in a tar's index by the labels."""
    name, numbers = task
    rows = index.from_parquet(Path(folders.staged(name)).read_bytes())
    labels = np.array([numbers[code] for code in rows.labels.tolist()], np.int64)
    index.write_index(folders.staged(name), replace(rows, labels=labels))
    tick()
