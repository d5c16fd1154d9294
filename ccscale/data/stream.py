"""From the schedule to batches: WebDataset pipelines in loader processes.

Training::

    lanes of this worker -> parts of global batches -> read, decode, cut both views -> joined into batches

A rank's workers share its lanes; each hands over its part of every batch, and the parts are joined in the order of
the lanes. So the batches are the same for every number of workers, and of ranks.

An image that cannot be decoded is replaced by the schedule's substitute: the batch stays full, the order stays
the schedule's, and the loss of one image is told by name.
"""

import hashlib
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ccscale.config import Views
from ccscale.data.images.crops import cut_views, whole_image
from ccscale.data.images.decode import silence_pillow
from ccscale.data.images.views import VIEWS, ColourParameters, draw_views
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import EpochOrder, owned
from ccscale.data.read_ahead import read_ahead_lanes, read_ahead_ranges
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.remote.retry import Closing
from ccscale.data.shards.manifest import Manifest
from ccscale.data.watching import watched
from ccscale.errors import BadImage, Fault, InputError

MAX_WORKERS = 8
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SUBSTITUTES = 1000  # tries before the data are given up as undecodable altogether

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """A rank's part of a global batch of view pairs, or a worker's part of that.

    Attributes
    ----------
    step
        Number of the global batch, counted from 0 through all epochs.
    images
        (2, n, size, size, 3) uint8, RGB: the geometry is done, colour and blur are not.
    colour
        What is still to be done to the 2 x n views.
    digest
        Two sums of 32-bit hashes over (place in the global batch, key); they add up over ranks, modulo 2**32.
    bad
        A line for each image that could not be decoded, with its key and the reason.
    """

    step: int
    images: Tensor
    colour: ColourParameters
    digest: tuple[int, int]
    bad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WholeBatch:
    """Whole images, for evaluation.

    Attributes
    ----------
    images
        (n, size, size, 3) uint8, RGB; black where `bad`.
    samples
        (n,) int64: their numbers in the data set.
    keys
        Their names.
    labels
        (n,) int64: -1 where not known.
    bad
        (n,) bool: it could not be decoded.
    reasons
        A line for each of these, with its key and the reason.
    origins
        Where the images came from, a path or a URL, None where that is not known; empty unless asked for.
    """

    images: Tensor
    samples: Int64
    keys: tuple[str, ...]
    labels: Int64
    bad: NDArray[np.bool_]
    reasons: tuple[str, ...]
    origins: tuple[str | None, ...] = ()


def pair_batches(
    manifest: Manifest,
    splits: Sequence[str],
    schedule: PhasedSchedule,
    views: Views,
    start: int,
    stop: int,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    prefetch: int = 2,
    access: Access | None = None,
    closing: Closing | None = None,
) -> Iterator[PairBatch]:
    """Yield this rank's part of global batches `start` to `stop`, counted from 0 through all epochs.

    Parameters
    ----------
    manifest, splits
        The data set and all splits that `schedule` was made for.
    schedule
        The order.
    views
        What a view is.
    rank, world
        Which lanes are this rank's; `world` divides the schedule's lanes.
    workers
        Loader processes; 0 loads in this one.
    prefetch
        Batches that each worker holds ready.
    access
        How shards that are no local files are read.
    closing
        Ends all reads, where nobody waits for a batch any more.

    Raises
    ------
    InputError
        If a shard is damaged or missing, or no substitute for a bad image can be decoded.
    Fault
        If a remote shard could not be read for as long as it was tried, or a loader process was killed.
    """
    lanes = owned(schedule.lanes, rank, world)
    workers = min(workers, len(lanes))
    closing = closing or Closing()
    reader = SampleReader(manifest, splits, access, closing)
    pipeline = wds.DataPipeline(
        partial(_plan_parts, schedule, lanes, start, stop),
        partial(
            _cut_parts, reader=reader, schedule=schedule, views=views, lanes=lanes, start=start, stop=stop
        ),
    )
    parts: list[PairBatch] = []
    for part in _load(pipeline, closing, workers, prefetch):
        parts.append(part)
        if len(parts) == max(workers, 1):
            yield _join(parts)
            parts = []


def whole_batches(
    manifest: Manifest,
    splits: Sequence[str],
    size: int,
    batch: int,
    *,
    scaled_decode: bool = True,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    access: Access | None = None,
    spans: Sequence[range] | None = None,
    origins: bool = False,
) -> Iterator[WholeBatch]:
    """Yield this rank's share of all samples, each exactly once over all ranks, in the order of the shards.

    Parameters
    ----------
    manifest, splits
        What to go over.
    size
        Side of the images in pixels.
    batch
        Images at a time; the last batch may be smaller.
    scaled_decode
        See `config.Views`.
    rank, world, workers, access
        As in `pair_batches`; here `world` is any number.
    spans
        Samples to go over instead of this rank's share: one span after the other, no batch across an end.
    origins
        Also tell where the images came from.

    Raises
    ------
    InputError, Fault
        As `pair_batches` does.
    """
    closing = Closing()
    reader = SampleReader(manifest, splits, access, closing, origins)
    if spans is None:
        spans = [owned(len(reader), rank, world)]
    workers = min(workers, sum(-(-len(span) // batch) for span in spans))
    pipeline = wds.DataPipeline(
        partial(_plan_whole, spans, batch),
        partial(
            _read_whole,
            reader=reader,
            size=size,
            scaled_decode=scaled_decode,
            spans=spans,
            batch=batch,
            origins=origins,
        ),
    )
    yield from _load(pipeline, closing, workers, prefetch=2)


def default_workers(local_world: int = 1) -> int:
    """Return the number of loader processes for a rank that shares its cores with `local_world` - 1 others."""
    cores = len(os.sched_getaffinity(0)) // local_world
    return min(MAX_WORKERS, max(1, cores - 1))


def _load(pipeline: wds.DataPipeline, closing: Closing, workers: int, prefetch: int) -> Iterator[Any]:
    """Run a pipeline in worker processes; hand on what they yield, raise what they could not help."""
    loader = DataLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=partial(_start_worker, closing),
        # Python 3.14 would begin each anew, and import everything: ten seconds, and hundreds of MB a worker.
        multiprocessing_context="fork" if workers else None,
    )
    try:
        for item in watched(loader):
            if isinstance(item, InputError | Fault):
                raise item
            yield item
    finally:
        closing.set()  # nobody waits for what is still being read


def _start_worker(closing: Closing, worker: int) -> None:
    """Leave signals to the training process, which decides when to stop; leave the cores to all workers."""

    def end(number: int, frame: Any) -> None:
        if closing.is_set():  # then it is the training process that sends it, and waits
            os._exit(0)

    for number in SIGNALS:
        signal.signal(number, end if number == signal.SIGTERM else signal.SIG_IGN)
    torch.set_num_threads(1)
    silence_pillow()


def _this_worker() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _of_this_worker(lanes: range) -> range:
    mine = owned(len(lanes), *_this_worker())
    return lanes[mine.start : mine.stop]


def _plain(error: InputError | Fault) -> InputError | Fault:
    """Return an error as a worker hands it over: raised, it would arrive as the text of a traceback."""
    return InputError(str(error)) if isinstance(error, InputError) else Fault(str(error))


def _plan_parts(
    schedule: PhasedSchedule, lanes: range, start: int, stop: int
) -> Iterator[tuple[int, EpochOrder, Int64, range]]:
    """Yield (step, its turn's order, samples, their places in the global batch) of this worker's lanes."""
    lanes = _of_this_worker(lanes)
    places = range(lanes.start * schedule.share, lanes.stop * schedule.share)
    order: EpochOrder | None = None
    for step in range(start, stop):
        turn = schedule.locate(step)
        if order is None or order.epoch != turn.number:
            order = schedule.order(turn.number)
        yield step, order, order.batch(turn.place, lanes), places


def _cut_parts(
    parts: Iterator[tuple[int, EpochOrder, Int64, range]],
    reader: SampleReader,
    schedule: PhasedSchedule,
    views: Views,
    lanes: range,
    start: int,
    stop: int,
) -> Iterator[PairBatch | InputError | Fault]:
    ahead = None
    if reader.shards.is_remote:
        ahead = read_ahead_lanes(reader, schedule, _of_this_worker(lanes), start, stop)
    for step, order, samples, places in parts:
        images = np.empty((VIEWS, len(samples), views.size, views.size, 3), dtype=np.uint8)
        digest, bad = np.zeros(2, dtype=np.uint64), []
        try:
            # All samples' views are drawn at once; those of substitutes one by one, as they come up.
            params = draw_views(views, schedule.seed, order.epoch, samples)
            colour = params.colour
            if ahead is not None:
                ahead.advance()
            for i in range(len(samples)):
                sample, cut, attempt = int(samples[i]), partial(cut_views, params=params, i=i), 0
                while True:
                    if ahead is not None and attempt == 0:
                        encoded = ahead.take(i // schedule.share, sample)
                    else:
                        encoded = reader[sample]
                    try:
                        cut(encoded.data, views, out=images[:, i])
                        break
                    except BadImage as error:
                        bad.append(f"{encoded.key}: {error}")
                    if attempt == SUBSTITUTES:
                        raise InputError(
                            f"{attempt} images in a row cannot be decoded, the last is {bad[-1]}; "
                            "is this a data set of images?"
                        )
                    sample = order.substitute(int(samples[i]), attempt)
                    drawn = draw_views(views, schedule.seed, order.epoch, np.array([sample]))
                    colour = colour.replaced(i, drawn.colour)
                    cut, attempt = partial(cut_views, params=drawn, i=0), attempt + 1
                digest += _digest(places[i], encoded.key)
        except (InputError, Fault) as error:
            yield _plain(error)
            return
        yield PairBatch(step, torch.from_numpy(images), colour, (int(digest[0]), int(digest[1])), tuple(bad))


def _digest(place: int, key: str) -> NDArray[np.uint64]:
    """Return two 32-bit hashes of a key at a place of the global batch."""
    value = hashlib.blake2b(f"{place}:{key}".encode(), digest_size=8).digest()
    return np.frombuffer(value, dtype=np.uint32).astype(np.uint64)


def _join(parts: Sequence[PairBatch]) -> PairBatch:
    """Join the workers' parts of a batch in the order of the lanes."""
    if len(parts) == 1:
        return parts[0]
    return PairBatch(
        parts[0].step,
        torch.cat([part.images for part in parts], dim=1),
        ColourParameters.concatenate([part.colour for part in parts]),
        (sum(part.digest[0] for part in parts), sum(part.digest[1] for part in parts)),
        tuple(line for part in parts for line in part.bad),
    )


def _plan_whole(spans: Sequence[range], batch: int) -> Iterator[range]:
    """Yield the batches of this worker: every so-manieth, so that the loader puts them in order."""
    worker, workers = _this_worker()
    batches = (span[start : start + batch] for span in spans for start in range(0, len(span), batch))
    return itertools.islice(batches, worker, None, workers)


def _read_whole(
    plan: Iterator[range],
    reader: SampleReader,
    size: int,
    scaled_decode: bool,
    spans: Sequence[range],
    batch: int,
    origins: bool,
) -> Iterator[WholeBatch | InputError | Fault]:
    ahead = read_ahead_ranges(reader, _plan_whole(spans, batch)) if reader.shards.is_remote else None
    for samples in plan:
        images = np.zeros((len(samples), size, size, 3), dtype=np.uint8)
        keys, labels, bad, reasons = [], [], np.zeros(len(samples), dtype=bool), []
        try:
            for i, sample in enumerate(samples):
                if ahead is not None:
                    ahead.advance()
                    encoded = ahead.take(0, sample)
                else:
                    encoded = reader[sample]
                keys.append(encoded.key)
                labels.append(encoded.label)
                try:
                    images[i] = whole_image(encoded.data, size, scaled_decode)
                except BadImage as error:
                    bad[i] = True
                    reasons.append(f"{encoded.key}: {error}")
            came_from = tuple(map(reader.origin, samples)) if origins else ()
        except (InputError, Fault) as error:
            yield _plain(error)
            return
        yield WholeBatch(
            torch.from_numpy(images),
            np.asarray(samples, dtype=np.int64),
            tuple(keys),
            np.asarray(labels, dtype=np.int64),
            bad,
            tuple(reasons),
            came_from,
        )
