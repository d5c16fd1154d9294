"""A hash of a global batch: which key stands at which place. It adds up over ranks, and workers."""

import hashlib
from collections.abc import Iterable

_HALF = 0xFFFFFFFF


def batch_digest(places: Iterable[int], keys: Iterable[str]) -> tuple[int, int]:
    """Return two sums of 32-bit hashes over (place in the global batch, key)."""
    low = high = 0
    for place, key in zip(places, keys, strict=True):
        value = int.from_bytes(hashlib.blake2b(f"{place}:{key}".encode(), digest_size=8).digest(), "little")
        low += value & _HALF
        high += value >> 32
    return low, high
