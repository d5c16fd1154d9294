"""Measures how well ways of shuffling mix shards that are sorted by class, the worst case.

    python tools/paper/mixing.py [--seed 0] [--set NAME ...] [--order NAME ...] [--json]

Only the numbers of samples are shuffled, no images. Each table compares ccscale's schedule, with its default
lanes, pieces and blocks and with others, to a full permutation of the data and to WebDataset's shuffle of shards
and buffers (the library's own code). A row's figures are means over the global batches of an epoch, or in
large sets over a stretch of it:

    classes in a batch       how many different ones
    clumping, 1 batch        chi-square of the batch's class counts by its degrees of freedom; 1 is chance
    clumping, 16 batches     the same of 16 successive batches taken together: 1 unless the classes drift
    neighbours in a batch    pairs of samples that lie side by side on the disk and come in the same batch
    pairs met again          pairs of a batch that come in the same batch in the next epoch, too
    correlation              of the place on the disk with the place in the epoch (Spearman's)

and a row's `reads` is the number of samples that lie side by side in a shard where a lane reads them together.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from ccscale.config import MAX_LANES, Data
from ccscale.data.order.schedule import Schedule, default_block, default_piece

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import parser

from ccscale.array_types import Int64

Order = Callable[[int], Int64]
"""Epoch to the samples of its global batches: (batches, global batch)."""

SAMPLE_BYTES = 110_000  # of an image and what is known of it: as ImageNet's
TOGETHER = 16  # successive batches whose classes are counted together
SHARD_SHUFFLE = 100  # WebDataset's usual `shardshuffle`
COLUMNS = {  # figure: its head, in two lines
    "classes": ("classes", "in a batch"),
    "clumping": ("clumping,", "1 batch"),
    "clumping_together": ("clumping,", f"{TOGETHER} batches"),
    "neighbours": ("neighbours", "in a batch"),
    "met_again": ("pairs", "met again"),
    "correlation": ("corre-", "lation"),
}


@dataclass(frozen=True)
class DataSet:
    """A data set sorted by class and cut into shards of equal size."""

    samples: int
    classes: int
    """All of the same size, up to one sample."""
    shards: int
    batch: int = 256
    lanes: int = MAX_LANES
    batches: int | None = None
    """How many of an epoch's batches are looked at; None: all."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each shard."""
        return tuple(np.diff(np.arange(self.shards + 1) * self.samples // self.shards).tolist())

    @property
    def piece(self) -> int | None:
        """Samples in ccscale's pieces where a config names no other number."""
        return default_piece(self.sizes)

    @property
    def block(self) -> int:
        """Samples in ccscale's blocks where a config names no other number."""
        block_bytes = Data.model_fields["block_bytes"].default
        return default_block(self.samples, self.samples * SAMPLE_BYTES, block_bytes)

    @property
    def steps(self) -> int:
        """Batches that are looked at."""
        return self.batches or self.samples // self.batch


SETS = {
    "small": DataSet(100_000, 200, 10),
    "medium": DataSet(200_000, 200, 20),
    "imagenet": DataSet(1_281_167, 1000, 550),
    "hundred-million": DataSet(10**8, 10_000, 10_000, batches=160),
    "billion": DataSet(10**9, 10_000, 100_000, batches=160),
    "billion-wide": DataSet(10**9, 10_000, 100_000, batch=65_536, lanes=4096, batches=16),
}


@dataclass(frozen=True)
class Figures:
    """Means over batches, as the module's head names them; None where too little was looked at."""

    classes: float
    clumping: float
    clumping_together: float | None
    neighbours: float
    met_again: float | None
    correlation: float | None


def measure(data: DataSet, order: Order) -> Figures:
    """Return the figures of two successive epochs, the first ones of an order."""
    first, whole = order(0), data.batches is None
    counts = _class_counts(data, first)
    groups = counts[: len(counts) // TOGETHER * TOGETHER].reshape(-1, TOGETHER, data.classes).sum(axis=1)
    beside = np.diff(np.sort(first, axis=1), axis=1) == 1
    return Figures(
        classes=float((counts > 0).sum(axis=1).mean()),
        clumping=_clumping(data, counts),
        clumping_together=_clumping(data, groups) if len(groups) else None,
        neighbours=float(beside.sum(axis=1).mean()),
        met_again=_met_again(data, first, order(1)) if whole else None,
        correlation=float(np.corrcoef(np.arange(first.size), first.ravel())[0, 1]) if whole else None,
    )


def permuted(data: DataSet, seed: int) -> Order:
    """Return the order of a full permutation (in large sets drawn with replacement: few batches are looked at)."""

    def order(epoch: int) -> Int64:
        rng, shape = np.random.default_rng([seed, epoch]), (data.steps, data.batch)
        if data.batches is not None:
            return rng.integers(data.samples, size=shape)
        return rng.permutation(data.samples)[: data.steps * data.batch].reshape(shape)

    return order


def scheduled(
    data: DataSet, seed: int, piece: int | None, block: int | None = None, lanes: int | None = None
) -> Order:
    """Return ccscale's order; None is the default for block and lanes, and whole shards for pieces."""
    schedule = Schedule(data.sizes, seed, data.batch, lanes or data.lanes, piece, block or data.block)

    def order(epoch: int) -> Int64:
        epoch_order = schedule.epoch(epoch)
        return np.stack([epoch_order.batch(step) for step in range(data.steps)])

    return order


def buffered(data: DataSet, seed: int, buffer: int, workers: int = 1, again: int = 0) -> Order:
    """Return WebDataset's order: shards shuffled, then samples in a buffer.

    With several loaders each has its share of the shards and a buffer, and batches come from them in turn; or
    their samples are taken in turn and shuffled in a second buffer of `again` samples.
    """
    ends = np.cumsum(data.sizes).tolist()
    shards = [range(end - size, end) for end, size in zip(ends, data.sizes, strict=True)]

    def loader(epoch: int, worker: int) -> Iterator[int]:
        mine, draw = shards[worker::workers], seed * 1_000_003 + epoch * workers + worker
        stages = (
            wds.shuffle(SHARD_SHUFFLE, seed=draw),
            chain.from_iterable,
            wds.shuffle(buffer, seed=draw + 1),
        )
        return iter(wds.DataPipeline(lambda: iter(mine), *stages))

    def order(epoch: int) -> Int64:
        loaders = [loader(epoch, worker) for worker in range(workers)]
        if again:
            joined = wds.shuffle(again, seed=seed + epoch)(_in_turn(loaders))
        else:
            joined = chain.from_iterable(_in_turn([_batched(each, data.batch) for each in loaders]))
        # Where only a stretch is looked at, it is one with full buffers.
        start = 0 if data.batches is None else 2 * (workers * buffer + again)
        taken = np.fromiter(islice(joined, start, start + data.steps * data.batch), dtype=np.int64)
        return taken[: len(taken) // data.batch * data.batch].reshape(-1, data.batch)

    return order


def rows(data: DataSet, seed: int) -> Iterator[tuple[str, int | None, Order]]:
    """Yield (name, samples read together, order) of the ways to compare."""
    piece, shard = data.piece, data.samples // data.shards
    small = data.samples < 10**7
    yield "full permutation", 1, permuted(data, seed)
    yield "ccscale, defaults", piece or shard, scheduled(data, seed, piece)
    for block in (64, 256, 1024):
        yield f"ccscale, blocks of {block}", piece or shard, scheduled(data, seed, piece, block)
    for lanes in (16, 256) if small else ():  # all divide the global batch of these sets
        yield f"ccscale, {lanes} lanes", piece or shard, scheduled(data, seed, piece, lanes=lanes)
    for other in (1, 2, 8, 100):
        if other < shard and other != piece and (small or other >= 100):
            yield f"ccscale, pieces of {other}", other, scheduled(data, seed, other)
    if piece is not None:
        yield "ccscale, pieces of whole shards", shard, scheduled(data, seed, None)
    for buffer, workers, again in ((1000, 1, 0), (5000, 1, 0), (5000, 8, 0), (5000, 8, 1000)):
        name = f"WebDataset, shuffle({buffer}), {workers} loader{'s' if workers > 1 else ''}"
        yield (
            name + (f", shuffle({again})" if again else ""),
            shard,
            buffered(data, seed, buffer, workers, again),
        )


def table(name: str, data: DataSet, results: list[dict[str, Any]]) -> str:
    """Return a data set's results as text."""
    lines = [
        f"{name}: {data.samples:,} samples of {data.classes:,} classes in {data.shards:,} shards, global batch "
        f"{data.batch:,}; by default {data.lanes} lanes, blocks of {data.block}, pieces of "
        f"{data.piece or 'whole shards'}"
    ]
    for first, second in zip(("", "reads"), zip(*COLUMNS.values(), strict=True), strict=True):
        lines.append(f"{'':52}{first:>7}" + "".join(f"{title:>13}" for title in second))
    for result in results:
        cells = "".join(f"{_number(result[key]):>13}" for key in COLUMNS)
        lines.append(f"{result['order']:52}{result['reads']:>7}{cells}")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--set", choices=SETS, action="append", help="again for more; all by default")
    options.add_argument("--order", action="append", help="as a row names it; again for more; all by default")
    args = options.parse_args()
    found = {}
    for name in args.set or SETS:
        data = SETS[name]
        found[name] = [
            {"order": title, "reads": reads, **asdict(measure(data, order))}
            for title, reads, order in rows(data, args.seed)
            if args.order is None or title in args.order
        ]
        if not args.json:
            print(table(name, data, found[name]), end="\n\n", flush=True)
    if unknown := {*(args.order or ())} - {row["order"] for of_set in found.values() for row in of_set}:
        options.error(f"no set has an order '{min(unknown)}'")
    if args.json:
        print(json.dumps({"seed": args.seed, "sets": found}))
    return 0


def _class_counts(data: DataSet, order: Int64) -> Int64:
    """Return how often each class comes in each batch: (batches, classes)."""
    cells = order * data.classes // data.samples + np.arange(len(order))[:, None] * data.classes
    return np.bincount(cells.ravel(), minlength=len(order) * data.classes).reshape(len(order), data.classes)


def _clumping(data: DataSet, counts: Int64) -> float:
    expected = counts.sum(axis=1, keepdims=True) / data.classes  # all classes have the same size
    return float(((counts - expected) ** 2 / expected).sum(axis=1).mean() / (data.classes - 1))


def _met_again(data: DataSet, first: Int64, second: Int64) -> float:
    """Return how many pairs of a batch of the first epoch share a batch in the second, on average."""
    batches = np.full(data.samples, -1)
    batches[second.ravel()] = np.repeat(np.arange(len(second)), data.batch)
    again = batches[first]
    meetings = (again + np.arange(len(first))[:, None] * len(second))[again >= 0]
    _, shared = np.unique(meetings, return_counts=True)
    return float((shared * (shared - 1) // 2).sum() / len(first))


def _in_turn(streams: list[Iterator[Any]]) -> Iterator[Any]:
    """Yield from each stream in turn until all have ended."""
    while streams:
        for stream in list(streams):
            try:
                yield next(stream)
            except StopIteration:
                streams.remove(stream)


def _batched(stream: Iterator[int], size: int) -> Iterator[list[int]]:
    while batch := list(islice(stream, size)):
        yield batch


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
