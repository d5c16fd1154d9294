"""Names of samples: valid text whatever the files' names are, made different, and found in more than one shard."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint64]

_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # as `os.fsdecode` and `tarfile` spell such bytes
_ESCAPE = re.compile("%x([0-9A-F]{2})")


def is_utf_8(name: str) -> bool:
    """Return whether a name is valid text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(name: str) -> str:
    """Return a file's name as valid text: a byte that is not UTF-8 becomes ``%xE9``, two hexadecimal digits.

    All other names stay as they are, but for those that have such a thing in them already: its ``%`` is escaped.
    """
    name = re.sub("%(?=x[0-9A-F]{2})", "%x25", name)
    return _NOT_UTF_8.sub(lambda byte: f"%x{ord(byte[0]) - 0xDC00:02X}", name)


def valid(name: str) -> str:
    """Return a name as valid text: as it stands where it is that, perhaps after it was escaped; else `escaped`."""
    return name if is_utf_8(name) else escaped(name)


def unescaped(text: str) -> str:
    """Return the name that `escaped` was given, for `os.fsencode`."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]).decode("ascii", "surrogateescape"), text)


def disambiguated(keys: Sequence[str], endings: Sequence[str]) -> list[str]:
    """Give keys that collide their files' endings: ``p.jpg`` and ``p.png`` become ``p_jpg`` and ``p_png``.

    Parameters
    ----------
    keys
        Without endings, in a fixed order: what collides still gets a number in this order, ``p_jpg_2``.
    endings
        Of each, without the dot; "" if there is none.

    Returns
    -------
    list
        Of keys that are all different. Those that were different from all others are as they were.
    """
    counts = Counter(keys)
    taken = {key for key, count in counts.items() if count == 1}
    found = []
    for key, ending in zip(keys, endings, strict=True):
        if counts[key] > 1:
            wanted = key = f"{key}_{ending}" if ending else key
            number = 1
            while key in taken:
                number += 1
                key = f"{wanted}_{number}"
            taken.add(key)
        found.append(key)
    return found


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
