"""Keys that are in more than one shard, found with eight bytes a sample whatever the keys' lengths."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint64]


def digests(keys: list[str]) -> Digests:
    """Return a 64-bit digest of each key."""
    joined = b"".join(
        hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest() for key in keys
    )
    return np.frombuffer(joined, np.uint64)


def shared_keys(
    shards: Sequence[Digests], keys_of: Callable[[int], list[str]]
) -> list[tuple[int, list[str], int]]:
    """Find the keys that are in more than one shard.

    Parameters
    ----------
    shards
        Digests of each shard's keys, which are unique within the shard.
    keys_of
        Returns the keys of a shard by its number; asked only where digests are equal.

    Returns
    -------
    list
        For each shard that repeats keys of shards before it: its number, these keys in its order, and the number
        of the shard that has the first of them.
    """
    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *shards]), return_counts=True)
    equal = values[counts > 1]
    if not len(equal):
        return []
    found = []
    homes: dict[str, int] = {}
    for number, shard in enumerate(shards):
        again = np.flatnonzero(np.isin(shard, equal))
        if not len(again):
            continue
        keys = keys_of(number)
        candidates = [keys[i] for i in again]
        doubles = [key for key in candidates if key in homes]
        for key in candidates:
            homes.setdefault(key, number)
        if doubles:
            found.append((number, doubles, homes[doubles[0]]))
    return found
