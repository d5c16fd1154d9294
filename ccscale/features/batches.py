"""Batches of feature pairs for training on a feature store: the counterpart of `data.pairs`.

Rows are read from the memory map in the training process: there is nothing to decode, and a loader process would
have to copy them. The order is that of the schedule, as for images; a sample without features is replaced by the
schedule's substitute, like an image that cannot be decoded.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale.array_types import Int64
from ccscale.data.digest import batch_digest
from ccscale.data.order.growing import RunOrder
from ccscale.data.order.schedule import EpochOrder, owned
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import SUBSTITUTES, PairBatch
from ccscale.data.ring import Allot, plain_memory
from ccscale.data.whole_images import WholeBatch
from ccscale.errors import InputError
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """A rank's part of a global batch of pairs of features.

    Attributes
    ----------
    step, digest, bad
        As those of a `PairBatch`.
    features
        (2, n, D) float32; (3, n, D) with the images as they are, the mean of all views, behind the pair.
    samples
        (n,) int64: which samples they are.
    """

    step: int
    features: Tensor
    samples: Int64
    digest: tuple[int, int]
    bad: tuple[str, ...] = ()

    @property
    def held(self) -> Tensor:
        """The tensors that go to the device."""
        return self.features

    def holding(self, held: Tensor) -> Self:
        """Return it with its features elsewhere."""
        return replace(self, features=held)


Batch = PairBatch | FeatureBatch


class _Keys:
    """Gives the keys of a store's rows, wherever they lie."""

    def __init__(self, features: Features) -> None:
        self._chunks = features.keys.chunks
        sizes = np.array([len(chunk) for chunk in self._chunks], dtype=np.int64)
        self._firsts = np.cumsum(sizes) - sizes

    def __getitem__(self, rows: Int64) -> list[str]:
        chunks = np.searchsorted(self._firsts, rows, side="right") - 1
        positions = rows - self._firsts[chunks]
        of = self._chunks
        return [of[chunk][i].as_py() for chunk, i in zip(chunks.tolist(), positions.tolist(), strict=True)]


def feature_batches(
    draw: PairDraw,
    schedule: RunOrder,
    start: int,
    stop: int,
    *,
    rank: int = 0,
    world: int = 1,
    boost: BoostSteps | None = None,
    allot: Allot = plain_memory,
) -> Iterator[FeatureBatch]:
    """Yield this rank's part of global batches `start` to `stop`, counted from 0 through all epochs.

    Parameters
    ----------
    draw
        Draws pairs of a store's rows; row i is sample i of `schedule`.
    schedule, rank, world
        As for `pair_batches`.
    boost
        The steps of a self-labelling: in it the image as it is comes with the pair, and where it trains by labels a
        pair is two views of an image, whatever it is before.
    allot
        Gives the memory for a batch's features.

    Raises
    ------
    InputError
        If a file cannot be read, or next to no sample has features.
    """
    lanes = owned(schedule.lanes, rank, world)
    positions = range(lanes.start * schedule.share, lanes.stop * schedule.share)
    keys, order = _Keys(draw.features), None
    for step in range(start, stop):
        turn = schedule.locate(step)
        if order is None or order.epoch != turn.number:
            order = schedule.order(turn.number)
        if boost is not None and boost.trains(step):
            draw = draw.of_views()
        is_triple = boost is not None and boost.covers(step)
        features = allot((2 + is_triple, len(positions), draw.features.width), torch.float32)
        samples, bad = _read(draw, keys, order, order.batch(turn.position, lanes), features.numpy()[:2])
        if is_triple:
            features.numpy()[2] = draw.features.mean(samples)
        digest = batch_digest(positions, keys[samples])
        yield FeatureBatch(step, features, samples, digest, tuple(bad))


def _read(
    draw: PairDraw, keys: _Keys, order: EpochOrder, wanted: Int64, features: NDArray[np.float32]
) -> tuple[Int64, list[str]]:
    """Read pairs into `features` (2, n, D); return the samples, and a line for each that has no features."""
    store, samples, bad = draw.features, wanted.copy(), list[str]()
    left = np.arange(len(wanted))
    for attempt in range(SUBSTITUTES + 1):
        rows, views = draw(order.epoch, samples[left])
        read = store.take(rows.reshape(-1), views.reshape(-1)).reshape(2, len(left), -1)
        features[:, left] = read
        left = left[store.bad[samples[left]] | ~np.isfinite(read.sum(axis=2)).all(axis=0)]
        if not len(left):
            return samples, bad
        bad += [f"{key}: {store.folder} has no features of it" for key in keys[samples[left]]]
        samples[left] = [order.substitute(int(wanted[i]), attempt) for i in left]
    raise InputError(
        f"{SUBSTITUTES} images in a row have no features, the last is {bad[-1]}; run `ccscale embed verify "
        f"{store.folder}`"
    )


def whole_features(features: Features, batch: int, spans: Sequence[range]) -> Generator[WholeBatch]:
    """Yield the mean features of images over all views, for evaluation: as `whole_batches` does images.

    What the views have in common is the image: clusters by their mean are better than by the image as it is.

    Parameters
    ----------
    features
        The store, with the rows to go over.
    batch
        Rows at a time; the last batch of a span may be smaller.
    spans
        Rows to go over, one span after the other.
    """
    names = _Keys(features)
    for span in spans:
        for start in range(span.start, span.stop, batch):
            rows = np.arange(start, min(start + batch, span.stop))
            keys = tuple(names[rows])
            values = features.mean(rows)
            bad = features.bad[rows] | ~np.isfinite(values.sum(axis=1))
            reasons = tuple(
                f"{keys[i]}: {features.folder} has no features of it" for i in np.flatnonzero(bad)
            )
            yield WholeBatch(
                torch.from_numpy(np.where(bad[:, None], np.float32(0), values)),
                rows,
                keys,
                features.labels[rows],
                bad,
                reasons,
                (None,) * len(rows),
            )
