"""Pairs of views for training, from the schedule to batches: WebDataset pipelines in loader processes.

::

    samples of this worker -> parts of global batches -> read, decode, crop both views -> joined into batches

A rank's workers share the samples of its lanes in each batch as evenly as possible; each produces its part of
every batch, and the parts are joined in the order of the lanes. So the batches are the same for any number of
workers and ranks. Remote lanes are read ahead, each by one worker.

An image that cannot be decoded is replaced by the schedule's substitute and reported by name: the batch stays
full, in the order of the schedule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from torch import Tensor

from ccscale.config import Views
from ccscale.data.digest import batch_digest
from ccscale.data.images.channels import Channels, empty_images
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import VIEWS, ColourParameters, ViewParameters, draw_views
from ccscale.data.loader import load, plain, this_worker
from ccscale.data.order.growing import RunOrder
from ccscale.data.order.schedule import EpochOrder, owned
from ccscale.data.order.stages import BoostSteps
from ccscale.data.read_ahead import Ahead, read_ahead_lanes
from ccscale.data.reader import Sample, SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.remote.retry import Closing
from ccscale.data.ring import Allot
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import BadImage, Fault, InputError

SUBSTITUTES = 1000  # tries before the data count as undecodable altogether


@dataclass(frozen=True, slots=True)
class PairBatch:
    """A rank's part of a global batch of view pairs, or a worker's part of that.

    Attributes
    ----------
    step
        Number of the global batch, counted from 0 through all epochs.
    images
        (2, n, size, size, 3) uint8, RGB: the geometry is done, colour and blur are not. (3, n, size, size, 3) where
        there are triples: the pair, and the image as it is. Of channels (2, n, size, size, C) float32.
    colour
        What is still to be done to the 2 x n (or 3 x n) views.
    digest
        Two sums of 32-bit hashes over (position in the global batch, key); they add up over ranks, modulo 2**32.
    bad
        A line for each image that could not be decoded, with its key and the reason.
    samples
        (n,) int64: the number of each image in the splits trained on; of a substitute, its own.
    """

    step: int
    images: Tensor
    colour: ColourParameters
    digest: tuple[int, int]
    bad: tuple[str, ...]
    samples: NDArray[np.int64]

    @property
    def held(self) -> Tensor:
        """The tensors that go to the device."""
        return self.images

    def holding(self, held: Tensor) -> Self:
        """Return it with its images elsewhere."""
        return replace(self, images=held)


class Triples(NamedTuple):
    """In the self-labelling three views of each image: a pair, and the image as it is.

    Where it trains by labels the pair is a weak view, which has the random numbers that the first of an ordinary
    pair would have, and a strong one with those of the second.
    """

    steps: BoostSteps
    weak: Views
    strong: Views

    def views(self, step: int, pair: Sequence[Views]) -> Sequence[Views]:
        """Return the settings of each view at a step, counted from 0; before the self-labelling the pair."""
        if not self.steps.covers(step):
            return pair
        return (*((self.weak, self.strong) if self.steps.trains(step) else pair), self.weak.plain)


def pair_batches(
    manifest: Manifest,
    splits: Sequence[str],
    schedule: RunOrder,
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
    triples: Triples | None = None,
    allot: Allot | None = None,
    channels: Channels | None = None,
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
    triples
        At which steps there are three views of each image instead of a pair, and what they are.
    allot
        Gives the memory for a batch's images, into which each worker's part is copied as it comes; by default they
        are joined when all are there, and a single part is not copied.
    channels
        What an image's numbers mean; None: RGB of 8 bits.

    Raises
    ------
    InputError
        If a shard is damaged or missing, or no substitute for a bad image can be decoded.
    Fault
        If a remote shard could not be read for as long as it was tried, or a loader process was killed.
    """
    lanes = owned(schedule.lanes, rank, world)
    closing = closing or Closing()
    reader = SampleReader(manifest, splits, access, closing)
    grain = schedule.share if reader.shards.is_remote else 1
    workers = min(workers, len(lanes) * schedule.share // grain)
    pipeline = wds.DataPipeline(
        partial(_parts_of_this_worker, schedule, lanes, grain, start, stop),
        partial(
            _read,
            reader=reader,
            schedule=schedule,
            views=views,
            triples=triples,
            lanes=lanes,
            start=start,
            stop=stop,
            channels=channels,
        ),
    )
    parts: list[PairBatch] = []
    images, at = torch.empty(0), 0
    for part in load(pipeline, closing, workers, prefetch):
        if allot is not None:
            of_each, count, *pixels = part.images.shape
            if not parts:
                images, at = allot((of_each, len(lanes) * schedule.share, *pixels), part.images.dtype), 0
            images[:, at : at + count].copy_(part.images)
            part, at = part.holding(images), at + count
        parts.append(part)
        if len(parts) == max(workers, 1):
            yield _join(parts)
            parts = []


class _Part(NamedTuple):
    """A worker's part of a global batch."""

    step: int
    order: EpochOrder
    """Of its turn."""
    samples: NDArray[np.int64]
    positions: range
    """Of the samples, in the global batch."""


def _of_this_worker(lanes: range) -> range:
    mine = owned(len(lanes), *this_worker())
    return lanes[mine.start : mine.stop]


def _parts_of_this_worker(
    schedule: RunOrder, lanes: range, grain: int, start: int, stop: int
) -> Iterator[_Part]:
    """Yield what this worker has to read, batch by batch: so many samples, or as many more, of a lane."""
    share = schedule.share
    mine = owned(len(lanes) * share // grain, *this_worker())
    begin = lanes.start * share
    positions = range(begin + mine.start * grain, begin + mine.stop * grain)  # in the global batch
    lanes = range(positions.start // share, -(-positions.stop // share))
    within = slice(positions.start - lanes.start * share, positions.stop - lanes.start * share)
    order: EpochOrder | None = None
    for step in range(start, stop):
        turn = schedule.locate(step)
        if order is None or order.epoch != turn.number:
            order = schedule.order(turn.number)
        yield _Part(step, order, order.batch(turn.position, lanes)[within], positions)


def _read(
    parts: Iterator[_Part],
    reader: SampleReader,
    schedule: RunOrder,
    views: Views,
    triples: Triples | None,
    lanes: range,
    start: int,
    stop: int,
    channels: Channels | None,
) -> Iterator[PairBatch | InputError | Fault]:
    ahead, pair = None, views.each(VIEWS)
    if reader.shards.is_remote:
        ahead = read_ahead_lanes(reader, schedule, _of_this_worker(lanes), start, stop)
    for part in parts:
        each = pair if triples is None else triples.views(part.step, pair)
        try:
            yield _read_part(part, reader, ahead, schedule, each, channels)
        except (InputError, Fault) as error:
            yield plain(error)
            return


def _read_part(
    part: _Part,
    reader: SampleReader,
    ahead: Ahead | None,
    schedule: RunOrder,
    views: Sequence[Views],
    channels: Channels | None,
) -> PairBatch:
    size, samples = views[0].size, part.samples.copy()
    images = empty_images((len(views), len(samples), size, size), channels)
    keys, bad = list[str](), list[str]()
    # All samples' views are drawn at once; those of substitutes one by one, as they come up.
    params = draw_views(views, schedule.seed, part.order.epoch, part.samples)
    colour = params.colour
    if ahead is not None:
        ahead.advance()

    def crop(encoded: Sample, params: ViewParameters, i: int, out: NDArray[Any]) -> bool:
        """Return whether an image's views are there now."""
        try:
            crop_views(encoded.data, views, params, i, out, channels)
        except BadImage as error:
            bad.append(f"{encoded.key}: {error}")
            return False
        return True

    for i, sample in enumerate(part.samples.tolist()):
        encoded = reader[sample] if ahead is None else ahead.take(i // schedule.share, sample)
        attempt = 0
        decoded = crop(encoded, params, i, images[:, i])
        while not decoded:
            if attempt == SUBSTITUTES:
                raise InputError(
                    f"{attempt} images in a row cannot be decoded, the last is {bad[-1]}; does the data "
                    "set contain images?"
                )
            substitute = part.order.substitute(sample, attempt)
            encoded, attempt = reader[substitute], attempt + 1
            drawn = draw_views(views, schedule.seed, part.order.epoch, np.array([substitute]))
            colour = colour.replaced(i, drawn.colour)
            samples[i] = substitute
            decoded = crop(encoded, drawn, 0, images[:, i])
        keys.append(encoded.key)
    digest = batch_digest(part.positions, keys)
    return PairBatch(part.step, torch.from_numpy(images), colour, digest, tuple(bad), samples)


def _join(parts: Sequence[PairBatch]) -> PairBatch:
    """Join the workers' parts of a batch in the order of the lanes; their images, unless they are joined by now."""
    if len(parts) == 1:
        return parts[0]
    images = parts[0].images
    if images is not parts[1].images:
        images = torch.cat([part.images for part in parts], dim=1)
    return PairBatch(
        parts[0].step,
        images,
        ColourParameters.concatenate([part.colour for part in parts]),
        (sum(part.digest[0] for part in parts), sum(part.digest[1] for part in parts)),
        tuple(line for part in parts for line in part.bad),
        np.concatenate([part.samples for part in parts]),
    )
