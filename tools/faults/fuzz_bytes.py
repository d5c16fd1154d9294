"""Changes of bytes, and the numbers that break readers: for the strategies of `fuzz.py`."""

import random
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

NUMBERS = [0, 1, 7, 127, 128, 255, 256, 511, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48 + 1]
NUMBERS += [2**60, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30, -1, -512, -(2**31), -(2**63)]
INT64 = [number for number in NUMBERS if -(2**63) <= number < 2**63]


def mutated(seeds: Callable[[], Sequence[bytes]]) -> st.SearchStrategy[bytes]:
    """Return one of some files after a few changes; drawn as one number, which is what takes the least time."""
    return st.integers(0, 2**48).map(lambda number: damage(random.Random(number), seeds()))


def damage(draw: random.Random, files: Sequence[bytes]) -> bytes:
    """Return one of the files after one to five changes of its bytes."""
    data = bytearray(draw.choice(files))
    for _ in range(draw.randint(1, 5)):
        at = draw.randint(0, len(data))
        length = draw.choice([1, 2, 4, 8, 64, 512, 5000])
        match draw.choice(["flip", "flip", "set", "number", "cut", "drop", "insert", "repeat", "splice"]):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case "set":
                data[at : at + length] = draw.randbytes(length % 9)
            case "number":
                width, order = draw.choice([2, 4, 8]), draw.choice(["little", "big"])
                number = draw.choice(INT64) % 2 ** (8 * width)
                data[at : at + width] = number.to_bytes(width, order)
            case "cut" if draw.random() < 0.3:
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw.randbytes(draw.randint(1, 16))
            case "repeat":
                data[at:at] = data[at : at + length]
            case "splice":
                other = draw.choice(files)
                data[at:] = other[draw.randint(0, len(other)) :]
    return bytes(data)
