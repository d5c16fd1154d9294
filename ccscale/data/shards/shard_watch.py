"""Watches a growing folder of shards for those that are finished and new.

A shard is finished when the manifest lists it and its file has the manifest's size; or, in a local folder, when no
manifest lists it, its size and time are those of the last look, and the tar reads to its end mark, which whoever
writes a tar writes last, and shares no key with those before it. What is there but not finished is examined again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ccscale.data.remote import location
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import ShardIndex, read_index, scan_tar
from ccscale.data.shards.keys import Digests, digests
from ccscale.data.shards.manifest import NAME, Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.splits import split_of
from ccscale.data.shards.tar_listing import tars_below
from ccscale.errors import InputError
from ccscale.progress import say

POLL_SECONDS = 1.0
UNLISTED = "0" * 32  # how what stands for the SHA-256 of a shard begins where no manifest tells it

Stamp = tuple[int, int]  # size and time of change


class ShardWatch:
    """Looks at a folder again and again; on one rank.

    Parameters
    ----------
    root
        A local folder, or an fsspec URL, of which the manifest alone tells.
    splits
        Those that are examined; all by default.

    Attributes
    ----------
    manifest
        As it was when it was last read; an empty one until there is one.
    handed_out
        The urls of the shards that were returned.
    """

    def __init__(self, root: str, splits: Sequence[str] | None = None) -> None:
        self.root = location.local_or_url(root)
        self._splits = splits
        self.handed_out: set[str] = set()
        self._seen: dict[str, Stamp] = {}
        self._waiting: dict[str, str] = {}
        self._keys: dict[str, Digests] = {}  # of the tars that are known
        name = Path(self.root).name
        self.manifest = Manifest(self.root, name, (), (), (), {}, {})

    def check(self) -> None:
        """Refuse a missing folder.

        Raises
        ------
        InputError
            With the remedy.
        """
        if not location.is_url(self.root) and not os.path.isdir(self.root):
            raise InputError(
                f"there is no folder {self.root}; create it, and --follow will wait for shards in it"
            )

    def poll(self) -> Manifest | None:
        """Return the finished shards that were not returned before, as a data set; None if there are none.

        Damaged ones are told once, and again when they have changed.
        """
        self._read_manifest()
        new = [shard for shard in [*self._listed(), *self._unlisted()] if self._is_wanted(shard)]
        self.handed_out |= {shard.url for shard in new}
        return replace(self.manifest, shards=tuple(new)) if any(shard.nsamples for shard in new) else None

    def _is_wanted(self, shard: Shard) -> bool:
        return shard.url not in self.handed_out and (self._splits is None or shard.split in self._splits)

    def _read_manifest(self) -> None:
        try:
            self.manifest = Manifest.load(self.root)
        except InputError as error:
            # There may be none (yet); one that is being written is read at the next look.
            if location.is_url(self.root) or os.path.exists(os.path.join(self.root, NAME)):
                self._tell(NAME, str(error))

    def _listed(self) -> Iterator[Shard]:
        for shard in self.manifest.shards:
            path = self.manifest.locate(shard)
            if shard.url in self.handed_out:
                continue
            stamp = None if location.is_url(path) else _stamp(path)
            if location.is_url(path) or (stamp is not None and stamp[0] == shard.filesize):
                yield shard

    def _unlisted(self) -> Iterator[Shard]:
        if location.is_url(self.root):
            return
        listed = {shard.url for shard in self.manifest.shards}
        for name in tars_below(self.root):
            split = split_of(name)
            unwanted = self._splits is not None and split not in self._splits
            if unwanted or name in listed or name in self.handed_out:
                continue
            path = os.path.join(self.root, name)
            stamp = _stamp(path)
            if stamp is None or stamp != self._seen.get(name):
                self._seen |= {name: stamp} if stamp is not None else {}
                self._waiting.pop(name, None)
            elif name not in self._waiting:
                try:
                    index = scan_tar(path, labelling=self.manifest.labelling)
                    self._check_keys(name, path, index.keys)
                except ShardError as error:
                    self._tell(name, str(error))
                else:
                    yield Shard(name, len(index), stamp[0], _stand_in(index), split)

    def _check_keys(self, name: str, path: str, keys: list[str]) -> None:
        """Refuse a tar with a sample that another one has, too, as `adopt` does; remember its keys."""
        for shard in self.manifest.shards:
            if shard.url not in self._keys:
                with contextlib.suppress(ShardError):  # it is not there yet
                    self._keys[shard.url] = digests(read_index(self.manifest, shard).keys)
        new = digests(keys)
        for other, known in self._keys.items():
            shared = np.flatnonzero(np.isin(new, known))
            if len(shared):
                raise ShardError(path, f"two samples have the key {keys[shared[0]]!r}, the other in {other}")
        self._keys[name] = new

    def _tell(self, name: str, problem: str) -> None:
        if self._waiting.get(name) != problem:
            self._waiting[name] = problem
            say(f"not assigned yet: {problem}")


def are_others(one: str, other: str) -> bool:
    """Return whether two hashes are of different shards; the hash of a shard that is not listed says nothing."""
    return one != other and one.startswith(UNLISTED) == other.startswith(UNLISTED)


def _stand_in(index: ShardIndex) -> str:
    """Return what stands for a shard's SHA-256 without reading all of it: a hash of its keys and their places."""
    facts = [index.keys, index.exts, index.offsets.tolist(), index.sizes.tolist(), index.labels.tolist()]
    return UNLISTED + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[len(UNLISTED) :]


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
