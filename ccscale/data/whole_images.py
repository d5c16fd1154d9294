"""Whole images, each sample once, with random views if requested: WebDataset pipelines in loader processes."""

import hashlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from torch import Tensor

from ccscale.config import Views
from ccscale.data.file_reader import FileReader
from ccscale.data.images.channels import Channels, empty_images
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import ColourParameters, draw_views
from ccscale.data.images.whole import whole_image
from ccscale.data.loader import load, plain, this_worker
from ccscale.data.order.schedule import owned
from ccscale.data.read_ahead import read_ahead_ranges
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.remote.retry import Closing
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import BadImage, Fault, InputError


@dataclass(frozen=True, slots=True)
class RandomViews:
    """Random views of each image, besides the unaugmented image.

    A sample's views depend on these and its key alone: other samples may come before it one day.

    Attributes
    ----------
    settings
        What a view is, of the images' size; its `raw` is 0.
    count
        How many of each image, V.
    seed
        Of what is random in them.
    """

    settings: Views
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class WholeBatch:
    """A batch of unaugmented images, for evaluation.

    Attributes
    ----------
    images
        (n, size, size, 3) uint8, RGB, or (n, size, size, C) float32 of channels; black where `bad`.
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
    views
        (V, n, size, size, 3 or C), alike: random views without their colours, black where `bad`; None unless asked
        for.
    colour
        What is still to be done to the colours of these V x n.
    """

    images: Tensor
    samples: NDArray[np.int64]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    bad: NDArray[np.bool_]
    reasons: tuple[str, ...]
    origins: tuple[str | None, ...] = ()
    views: Tensor | None = None
    colour: ColourParameters | None = None


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
    files: FileReader | None = None,
    views: RandomViews | None = None,
    channels: Channels | None = None,
) -> Generator[WholeBatch]:
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
    files
        What reads the images where these are no shards but files; `manifest` lists them.
    views
        Also cut random views of each image.
    channels
        What an image's numbers mean; None: RGB of 8 bits.

    Raises
    ------
    InputError, Fault
        As `pair_batches` does.
    """
    closing = Closing()
    reader = files or SampleReader(manifest, splits, access, closing, origins)
    if spans is None:
        spans = [owned(len(reader), rank, world)]
    workers = min(workers, sum(-(-len(span) // batch) for span in spans))
    pipeline = wds.DataPipeline(
        partial(_batches_of_this_worker, spans, batch),
        partial(
            _read,
            reader=reader,
            size=size,
            scaled_decode=scaled_decode,
            spans=spans,
            batch=batch,
            origins=origins,
            views=views,
            channels=channels,
        ),
    )
    yield from load(pipeline, closing, workers, prefetch=2)


def _batches_of_this_worker(spans: Sequence[range], batch: int) -> Iterator[range]:
    """Yield the batches of this worker: every so-manieth, so that the loader puts them in order."""
    worker, workers = this_worker()
    batches = (span[start : start + batch] for span in spans for start in range(0, len(span), batch))
    return itertools.islice(batches, worker, None, workers)


def _read(
    batches: Iterator[range],
    reader: SampleReader | FileReader,
    size: int,
    scaled_decode: bool,
    spans: Sequence[range],
    batch: int,
    origins: bool,
    views: RandomViews | None,
    channels: Channels | None,
) -> Iterator[WholeBatch | InputError | Fault]:
    ahead = (
        read_ahead_ranges(reader, _batches_of_this_worker(spans, batch))
        if isinstance(reader, SampleReader) and reader.is_remote
        else None
    )
    for samples in batches:
        images = empty_images((len(samples), size, size), channels)
        keys, labels, bad, reasons = [], [], np.zeros(len(samples), dtype=bool), []
        try:
            cutting = None if views is None else _Cutting(views, list(map(reader.key, samples)), channels)
            for i, sample in enumerate(samples):
                if ahead is not None:
                    ahead.advance()
                key, label = "", -1
                try:
                    key, data, label = reader[sample] if ahead is None else ahead.take(0, sample)
                    images[i] = whole_image(data, size, scaled_decode, channels=channels)
                    if cutting is not None:
                        cutting.cut(i, data)
                except BadImage as error:
                    key = key or reader.key(sample)  # of a file that cannot be read
                    bad[i] = True
                    reasons.append(f"{key}: {error}")
                keys.append(key)
                labels.append(label)
            came_from = tuple(map(reader.origin, samples)) if origins else ()
        except (InputError, Fault) as error:
            yield plain(error)
            return
        yield WholeBatch(
            torch.from_numpy(images),
            np.asarray(samples, dtype=np.int64),
            tuple(keys),
            np.asarray(labels, dtype=np.int64),
            bad,
            tuple(reasons),
            came_from,
            None if cutting is None else torch.from_numpy(cutting.images),
            None if cutting is None else cutting.params.colour,
        )


class _Cutting:
    """The random views of a batch, cut image by image."""

    def __init__(self, views: RandomViews, keys: Sequence[str], channels: Channels | None) -> None:
        self._settings, self._channels = views.settings, channels
        samples = np.array([_number(key) for key in keys], dtype=np.uint64).view(np.int64)
        self.params = draw_views(views.settings, views.seed, 0, samples, views.count)
        size = views.settings.size
        self.images = empty_images((views.count, len(keys), size, size), channels)

    def cut(self, i: int, data: bytes) -> None:
        """Cut the views of image `i`."""
        crop_views(data, self._settings, self.params, i, self.images[:, i], self._channels)


def _number(key: str) -> int:
    """Return the key of a sample's random numbers."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
