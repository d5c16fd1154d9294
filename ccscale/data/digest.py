"""A hash of the keys of a global batch and their positions, which can be summed over ranks and workers."""

import hashlib
from collections.abc import Iterable

_HALF = 0xFFFFFFFF


def batch_digest(positions: Iterable[int], keys: Iterable[str]) -> tuple[int, int]:
    """Return two sums of 32-bit hashes over (position in the global batch, key)."""
    low = high = 0
    for position, key in zip(positions, keys, strict=True):
        value = int.from_bytes(
            hashlib.blake2b(f"{position}:{key}".encode(), digest_size=8).digest(), "little"
        )
        low += value & _HALF
        high += value >> 32
    return low, high
