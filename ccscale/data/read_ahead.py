"""Remote samples, read ahead: block by block for each lane, the next block while one is used.

::

    lane     |.. block n ......|.. block n+1 ....|.. block n+2 ....|
                    ^ in use     coming             not asked for

A lane holds at most two blocks, each of at most `Access.block_bytes`; samples of a block that do not fit are read
one by one when they are needed. The first batch after a start waits for one block per lane, or for its own
samples if these are more; nothing further is requested before it is complete.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import lru_cache

import numpy as np

from ccscale.array_types import Int64
from ccscale.data.order.growing import RunOrder
from ccscale.data.order.schedule import EpochOrder, default_block
from ccscale.data.reader import Sample, SampleReader
from ccscale.data.remote.fetch import AT_ONCE, REQUEST
from ccscale.data.remote.retry import Closing
from ccscale.errors import Fault
from ccscale.threads import background

BLOCKS_AT_ONCE = 4  # that a process fetches
REQUEST_BYTES = BLOCKS_AT_ONCE * AT_ONCE * REQUEST
"""What a process holds of answers that are under way, at most."""


class Ahead:
    """The samples of some lanes, in their order."""

    def __init__(self, reader: SampleReader, lanes: Iterable[Iterator[Int64]]) -> None:
        self._reader = reader
        slots = threading.BoundedSemaphore(BLOCKS_AT_ONCE)

        def fetch(samples: list[int]) -> dict[int, bytes]:
            with slots:
                return reader.read_remote(samples, reader.access.block_bytes)

        self._lanes = [_Lane(fetch, blocks, reader.closing) for blocks in lanes]

    def advance(self) -> None:
        """Request every lane's next block, unless it was requested."""
        for lane in self._lanes:
            lane.advance()

    def take(self, lane: int, sample: int) -> Sample:
        """Return the next sample of a lane, which must be `sample`; raises errors of reading it."""
        data = self._lanes[lane].take(sample)
        return self._reader[sample] if data is None else self._reader.describe(sample, data)


class _Lane:
    def __init__(
        self,
        fetch: Callable[[list[int]], dict[int, bytes]],
        blocks: Iterator[Int64],
        closing: Closing | None,
    ) -> None:
        self._fetch, self._blocks, self._closing = fetch, blocks, closing
        self._held: dict[int, bytes] = {}
        self._left = 0  # samples of the block in use
        self._coming: tuple[int, Future[dict[int, bytes]]] | None = None

    def advance(self) -> None:
        if self._coming is None:
            block = next(self._blocks, None)
            if block is not None:
                samples = block.tolist()
                self._coming = len(samples), background(lambda: self._fetch(samples))

    def take(self, sample: int) -> bytes | None:
        if not self._left:
            self.advance()
            assert self._coming is not None
            self._left, future = self._coming
            while not wait([future], timeout=0.5).done:
                if self._closing is not None and self._closing.is_set():
                    raise Fault("nothing waits for it any more")
            self._held, self._coming = future.result(), None
        self._left -= 1
        return self._held.pop(sample, None)


def read_ahead_lanes(reader: SampleReader, schedule: RunOrder, lanes: range, start: int, stop: int) -> Ahead:
    """Read ahead the samples of some lanes for global batches `start` to `stop`."""
    order = lru_cache(maxsize=2)(schedule.order)
    return Ahead(reader, [_blocks(schedule, order, lane, start, stop) for lane in lanes])


def read_ahead_ranges(reader: SampleReader, ranges: Iterable[range]) -> Ahead:
    """Read ahead the samples of ranges, one after the other: a single lane."""
    count = default_block(reader.shards.samples, reader.shards.bytes, reader.access.block_bytes)
    blocks = (
        np.arange(begin, min(begin + count, samples.stop), dtype=np.int64)
        for samples in ranges
        for begin in range(samples.start, samples.stop, count)
    )
    return Ahead(reader, [blocks])


def _blocks(
    schedule: RunOrder, order: Callable[[int], EpochOrder], lane: int, start: int, stop: int
) -> Iterator[Int64]:
    """Yield what a lane reads: the rest of the block that it stands in, then block by block.

    Where the first batch reaches beyond that rest, it is its own samples that come first: more would have to be
    waited for.
    """
    share = schedule.share
    at, end = start * share, stop * share  # places, counted on through the turns
    first = at + share
    while at < end:
        step, within = divmod(at, share)
        turn = schedule.locate(step)
        of_turn, place = order(turn.number), turn.position * share + within
        block = of_turn.schedule.block
        rest = min(block - place % block, schedule.left(step) * share - within)
        count = min(max(rest, first - at), end - at)
        yield of_turn.lane(lane, place, place + count)
        at += count
