"""The order of samples: a pure function of (shard sizes, seed, epoch, step).

The order of an epoch is computed in three steps, independently of ranks, workers and files:

1. The shards are divided into *pieces*; the pieces are permuted and concatenated.
2. The result is split into equal contiguous spans, one per *lane*; the remainder is dropped, a different one in
   each epoch.
3. Each lane reads its span in *blocks* and permutes the samples within a block.

::

    shards      |0 1 2 3 4 5|6 7 8 9|10 11 12 13 14 15|
    pieces      [10 11 12] [3 4 5] [6 7] [0 1 2] [13 14 15] [8 9]
    lane 0      [10 11 12   3 4    5  6]                             7 = steps x (global batch / lanes)
    lane 1                              [7   0 1 2    13 14 15]
    dropped                                                     [8 9]

Global batch t is the t-th share of every lane, lanes in order. A rank owns consecutive lanes, which its workers
share. So the state of the stream is (epoch, step), and the batches are the same for any number of ranks and
workers.

All permutations sort the numbers of a counter-based generator, so that they are the same in every release of
NumPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.philox import philox4x32

# What `default_piece` and `default_block` keep to; tools/paper/mixing.py shows what they make of sorted data.
FULL_PERMUTATION = 2**17  # data with up to this many samples are permuted sample by sample
MIN_PIECE = 4  # samples that are read together in larger data: one seek or one request for them
MAX_PIECES = 2**20  # an epoch's order is made in a fraction of a second then, and held in 16 MiB
MAX_BLOCK = 1024

# Second word of the counter: what the random numbers are for. Views take the small numbers.
_PIECES, _BLOCK, _SUBSTITUTE = 2**32 - 1, 2**32 - 2, 2**32 - 3

_RUN = 2**14  # elements whose random words are drawn together: they fit into a core's cache


@dataclass(frozen=True)
class Schedule:
    """The order of all epochs.

    Parameters
    ----------
    shard_sizes
        Number of samples of each shard, in manifest order. Sample i of the data set is counted through them.
    seed
        32 bits.
    global_batch
        Images in a step, over all ranks.
    lanes
        Divides `global_batch`.
    piece
        Largest number of samples in a piece; None: a piece is a whole shard. See `default_piece`.
    block
        Samples that a lane permutes among each other. See `default_block`.
    firsts
        The number of each shard's first sample, where these are not all the shards of the data set, and its samples
        are counted through others too.

    Raises
    ------
    ValueError
        If the data do not fill one global batch, or `lanes` does not divide it.
    """

    shard_sizes: tuple[int, ...]
    seed: int
    global_batch: int
    lanes: int
    piece: int | None = None
    block: int = 1024
    firsts: tuple[int, ...] | None = None
    _sizes: Int64 = field(init=False, repr=False, compare=False)
    _firsts: Int64 = field(init=False, repr=False, compare=False)
    _samples: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.global_batch % self.lanes:
            raise ValueError(f"{self.lanes} lanes do not divide a global batch of {self.global_batch}")
        sizes = np.asarray(self.shard_sizes, dtype=np.int64)
        firsts = np.cumsum(sizes) - sizes if self.firsts is None else np.asarray(self.firsts, dtype=np.int64)
        if len(firsts) != len(sizes):
            raise ValueError(f"{len(firsts)} firsts for {len(sizes)} shards")
        object.__setattr__(self, "_sizes", sizes)
        object.__setattr__(self, "_firsts", firsts)
        object.__setattr__(self, "_samples", int(sizes.sum()))
        if self.samples < self.global_batch:
            raise ValueError(f"{self.samples} samples are less than a global batch of {self.global_batch}")

    @property
    def samples(self) -> int:
        """Samples in the shards."""
        return self._samples

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch."""
        return self.samples // self.global_batch

    @property
    def share(self) -> int:
        """Samples that each lane gives to a global batch."""
        return self.global_batch // self.lanes

    @property
    def span(self) -> int:
        """Samples that each lane reads in an epoch."""
        return self.steps_per_epoch * self.share

    def epoch(self, epoch: int) -> "EpochOrder":
        """Return the order of one epoch. Costs a permutation of the pieces.

        Where epochs have phases, it is the order of a turn; see `phases.py`.
        """
        return EpochOrder(self, epoch)

    def _pieces(self) -> tuple[Int64, Int64]:
        """Return first sample and length of every piece, in the order of the shards."""
        sizes = self._sizes
        if self.piece is None:
            return self._firsts[sizes > 0], sizes[sizes > 0]
        counts = -(-sizes // self.piece)
        shard = np.repeat(np.arange(len(sizes)), counts)
        number = np.arange(len(shard)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = number * self.piece  # within the shard
        return self._firsts[shard] + first, np.minimum(self.piece, sizes[shard] - first)


class EpochOrder:
    """The order of one epoch: `batch` gives whole global batches, `lane` a stretch of one lane.

    Each lane's latest block is kept, so that reading on costs one permutation a block, not one a batch.
    """

    def __init__(self, schedule: Schedule, epoch: int) -> None:
        self.schedule = schedule
        self.epoch = epoch
        self._key = np.array([schedule.seed, epoch], dtype=np.uint32)
        firsts, lengths = schedule._pieces()
        order = _permutation(len(firsts), self._key, _PIECES)
        self._firsts = firsts[order]
        self._begins = np.cumsum(lengths[order]) - lengths[order]
        self._blocks: dict[int, tuple[int, Int64]] = {}  # lane: number and samples of its latest block

    def lane(self, lane: int, start: int, stop: int) -> Int64:
        """Return the samples at positions `start` to `stop` of a lane's span, in the order they are read."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._stretch(lane, start, stop)])

    def batch(self, step: int, lanes: range | None = None) -> Int64:
        """Return the samples of global batch `step` that come from `lanes` (all of them by default), in order."""
        share = self.schedule.share
        lanes = range(self.schedule.lanes) if lanes is None else lanes
        return np.concatenate(
            [part for lane in lanes for part in self._stretch(lane, step * share, (step + 1) * share)]
        )

    def substitute(self, sample: int, attempt: int) -> int:
        """Return the sample that stands in for one that cannot be decoded.

        It is drawn from those that this epoch drops, or, where it drops none, from all of them; `attempt`
        counts the substitutes that could not be decoded either. It depends on neither ranks nor workers.
        """
        schedule = self.schedule
        used = schedule.lanes * schedule.span
        first = used if used < schedule.samples else 0
        counter = np.array([[attempt, _SUBSTITUTE, sample & 0xFFFFFFFF, sample >> 32]], dtype=np.uint32)
        high, low = (int(word) for word in philox4x32(counter, self._key)[0, :2])
        position = first + ((high << 32 | low) % (schedule.samples - first))
        return int(self._sample(np.array([position]))[0])

    def _stretch(self, lane: int, start: int, stop: int) -> Iterator[Int64]:
        """Yield what `lane` returns, block by block; the arrays are the blocks' own."""
        size = self.schedule.block
        for number in range(start // size, -(-stop // size)):
            begin = number * size
            yield self._block(lane, number)[max(start - begin, 0) : stop - begin]

    def _block(self, lane: int, number: int) -> Int64:
        """Return the samples of a lane's block, in the order they are read."""
        latest = self._blocks.get(lane)
        if latest is None or latest[0] != number:
            schedule = self.schedule
            begin, end = number * schedule.block, min((number + 1) * schedule.block, schedule.span)
            samples = self._sample(lane * schedule.span + np.arange(begin, end))
            order = _permutation(end - begin, self._key, _BLOCK, lane, number)
            latest = self._blocks[lane] = number, samples[order]
        return latest[1]

    def _sample(self, positions: Int64) -> Int64:
        """Return the samples at positions of the line of pieces."""
        piece = np.searchsorted(self._begins, positions, side="right") - 1
        return self._firsts[piece] + (positions - self._begins[piece])


def default_piece(shard_sizes: tuple[int, ...]) -> int | None:
    """Return the size of a piece where the config names none; None is a whole shard.

    Small data are permuted sample by sample. Larger ones are divided as finely as is read well, and as their order
    can be held; where that is no finer than a block, whole shards mix as well. The answer does not depend on where
    the data lie: a run whose shards are moved to a bucket goes on in the same order.
    """
    samples, shards = sum(shard_sizes), len(shard_sizes)
    if samples <= FULL_PERMUTATION:
        return 1
    # The last piece of each shard may be a short one: there are at most samples / piece + shards of them.
    piece = max(MIN_PIECE, -(-samples // max(1, MAX_PIECES - shards)))
    return piece if piece < min(MAX_BLOCK, max(shard_sizes)) else None


def default_block(samples: int, total_bytes: int, block_bytes: int) -> int:
    """Return the size of a block where the config names none: what fits into `block_bytes`, from 1 to `MAX_BLOCK`.

    Parameters
    ----------
    samples, total_bytes
        Of the data set: they give the mean size of a sample.
    block_bytes
        What a lane's block may hold.
    """
    return max(1, min(MAX_BLOCK, block_bytes * samples // max(total_bytes, 1)))


def owned(total: int, part: int, parts: int) -> range:
    """Return the share of `part` when `range(total)` is divided into `parts` contiguous runs, equal up to one."""
    return range(part * total // parts, (part + 1) * total // parts)


def _permutation(count: int, key: NDArray[np.uint32], purpose: int, a: int = 0, b: int = 0) -> Int64:
    """Return a permutation of `range(count)`, by sorting 64 random bits for each element."""
    numbers = np.empty(count, dtype=np.uint64)
    for begin in range(0, count, _RUN):
        run = np.arange(begin, min(begin + _RUN, count), dtype=np.uint32)
        counters = np.empty((len(run), 4), dtype=np.uint32)
        counters[:, 0] = run
        counters[:, 1:] = purpose, a, b
        words = philox4x32(counters, key).astype(np.uint64)
        numbers[begin : begin + len(run)] = words[:, 0] << np.uint64(32) | words[:, 1]
    # A stable sort takes six times as long, and differs only where two of the numbers are equal.
    order = np.argsort(numbers)
    ranked = numbers[order]
    if np.any(ranked[1:] == ranked[:-1]):
        order = np.argsort(numbers, kind="stable")
    return order
