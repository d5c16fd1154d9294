"""Counter-based random numbers: they depend on their purpose, not on what was drawn before.

Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a counter of four
32-bit words and a key of two into four random words. Here

    key     = (seed, epoch)
    counter = (block, view, low half of the sample, high half of the sample)

so the numbers of a sample's view are the same in whichever batch, worker or rank they are drawn. The network's own
draws (`model/dropout.py`) come from the same generator.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF


def philox4x32(counters: npt.NDArray[np.uint32], key: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the four random words of each counter: Philox-4x32-10.

    Parameters
    ----------
    counters
        Shape (..., 4).
    key
        Shape (2,), the same for all counters.

    Returns
    -------
    numpy.ndarray
        Shape (..., 4), uint32.
    """
    c0, c1, c2, c3 = np.moveaxis(counters, -1, 0).astype(np.uint64)
    words = philox_words(c0, c1, c2, c3, int(key[0]), int(key[1]))
    return np.stack(words, axis=-1).astype(np.uint32)


def philox_words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four random words of each counter, given and returned word by word; see `philox4x32`.

    The words are kept in 64 bits, since a product of two of them has so many: uint64 arrays, int64 tensors or
    integers, which broadcast against each other; of the first and third, one at least is no integer.
    """
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> 32 & _MASK) ^ c1 ^ k0,  # the mask: int64 is shifted with its sign
            product1 & _MASK,
            (product0 >> 32 & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0 = (k0 + _KEY_STEPS[0]) & _MASK
        k1 = (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def uniforms(
    seed: int, epoch: int, samples: npt.NDArray[np.int64], view: int, count: int
) -> npt.NDArray[np.float64]:
    """Return `count` numbers in [0, 1) for each sample's view.

    Each has 32 random bits: enough for a float32 factor (24 bits) and for a position in an image, whose sides
    are below 2**16 pixels in a JPEG; 53 bits would cost twice the work and change nothing that can be seen.

    Parameters
    ----------
    seed, epoch, view
        From 0 to 2**32 - 1.
    samples
        Shape (B,): which sample of the data set.
    count
        Numbers wanted of each; the first ones stay the same when more are requested.

    Returns
    -------
    numpy.ndarray
        Shape (B, count), float64, multiples of 2**-32.

    Raises
    ------
    ValueError
        If `seed`, `epoch` or `view` needs more than 32 bits.
    """
    for name, value in (("seed", seed), ("epoch", epoch), ("view", view)):
        if not 0 <= value <= _MASK:
            raise ValueError(f"{name} is {value}; it must be from 0 to 2**32 - 1")
    blocks = -(-count // 4)
    numbers = np.asarray(samples, dtype=np.int64).view(np.uint64)
    counters = np.empty((len(numbers), blocks, 4), dtype=np.uint32)
    counters[..., 0] = np.arange(blocks)
    counters[..., 1] = view
    counters[..., 2] = (numbers & _MASK)[:, None]
    counters[..., 3] = (numbers >> 32)[:, None]
    words = philox4x32(counters, np.array((seed, epoch), dtype=np.uint32))
    return words.reshape(len(numbers), blocks * 4)[:, :count].astype(np.float64) / 2**32
