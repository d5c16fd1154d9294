"""Exact statistics of the channels of all images in the shards, on any number of processes.

Each shard is counted for itself, in any process, and the counts are summed as whole numbers and fractions, so the
order does not count. Whole numbers are counted one by one. Of floating-point numbers an image's two sums are taken
in float64, and these are added exactly; percentiles are found in two passes: the upper 16 bits of each number tell
where it lies, and of those that have a percentile among them the lower 16 bits are counted.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from ccscale import pool
from ccscale.config import PERCENTILES
from ccscale.data.images.channels import read_values
from ccscale.data.images.decode import silence_pillow
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import PixelFacts, Shard
from ccscale.errors import BadImage, InputError
from ccscale.pool import Tick
from ccscale.progress import Meter

Counts = npt.NDArray[np.int64]
Wanted = tuple[tuple[int, ...], ...]  # of each channel: upper halves of which the lower ones are counted
_BINS = 2**16


@dataclass
class Count:
    """Pixel counts of some images of C channels.

    Attributes
    ----------
    images
        Number of images by the type of their numbers.
    pixels
        Number of pixels.
    upper
        (C, 65536): numbers by the upper half of their place in the order.
    lower
        (channel, upper half) to (65536,): by the lower half, of those that are wanted.
    sums, squares
        Of each channel; of whole numbers they follow from `upper`.
    """

    images: dict[str, int] = field(default_factory=dict)
    pixels: int = 0
    upper: Counts = field(default_factory=lambda: np.zeros((0, _BINS), dtype=np.int64))
    lower: dict[tuple[int, int], Counts] = field(default_factory=dict)
    sums: list[Fraction] = field(default_factory=list)
    squares: list[Fraction] = field(default_factory=list)

    def add(self, values: npt.NDArray[Any], wanted: Wanted | None) -> None:
        """Count an image (height, width, C); `wanted` in the second pass."""
        kind, channels = str(values.dtype), values.shape[2]
        self._grow(channels)
        if wanted is None:
            self.images[kind] = self.images.get(kind, 0) + 1
            self.pixels += values.shape[0] * values.shape[1]
        for channel in range(channels):
            plane = np.ascontiguousarray(values[..., channel]).ravel()
            keys = _keys(plane)
            upper = keys >> 16 if keys.dtype == np.uint32 else keys
            for half in () if wanted is None else wanted[channel]:
                counted = np.bincount(keys[upper == half] & 0xFFFF, minlength=_BINS)
                before = self.lower.get((channel, half))
                self.lower[channel, half] = counted if before is None else before + counted
            if wanted is None:
                found = np.bincount(upper)
                self.upper[channel, : len(found)] += found
                if plane.dtype.kind == "f":
                    exact = plane.astype(np.float64)
                    self.sums[channel] += Fraction(float(exact.sum()))
                    self.squares[channel] += Fraction(float((exact * exact).sum()))

    def join(self, other: "Count") -> None:
        """Add the counts of other images."""
        self._grow(len(other.upper))
        for kind, count in other.images.items():
            self.images[kind] = self.images.get(kind, 0) + count
        self.pixels += other.pixels
        self.upper += other.upper
        for place, counted in other.lower.items():
            self.lower[place] = self.lower.get(place, 0) + counted
        for mine, theirs in ((self.sums, other.sums), (self.squares, other.squares)):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]

    def _grow(self, channels: int) -> None:
        if not len(self.upper):
            self.upper = np.zeros((channels, _BINS), dtype=np.int64)
            self.sums, self.squares = [Fraction(0)] * channels, [Fraction(0)] * channels


def measure_pixels(
    manifest: Manifest,
    shown: tuple[int, ...] | None = None,
    workers: int | None = None,
    progress: bool = True,
    hold: int | None = None,
) -> PixelFacts:
    """Measure the pixel values of all images of a data set with one number of channels.

    Parameters
    ----------
    manifest
        Of local shards.
    shown
        The channels that pictures are to show; by default the first three.
    workers
        Processes; by default one per core that this process may use.
    progress
        Whether to show progress on standard error.
    hold
        As `pool.run`'s.

    Raises
    ------
    InputError
        If their numbers are of several types.
    """
    total = _count(manifest, None, workers, progress, hold)
    if len(total.images) > 1:
        kinds = " and ".join(f"{count:,} of {kind}" for kind, count in sorted(total.images.items()))
        raise InputError(
            f"the images in {manifest.root} have different pixel types, {kinds}, which would be scaled "
            "differently: convert them to one type, or make separate shards for each"
        )
    (kind,) = total.images
    channels = len(total.upper)
    if kind == "float32":
        halves: Wanted = tuple(
            tuple(sorted({place >> 16 for place in _places(total, channel, None)}))
            for channel in range(channels)
        )
        lower = _count(manifest, halves, workers, progress, hold).lower
    else:
        lower = None
        _sum_up(total, kind)
    places = [_places(total, channel, lower) for channel in range(channels)]
    found = np.stack([_numbers(np.array(each, dtype=np.uint32), kind) for each in places])  # (C, percentiles)
    means = [total.sums[channel] / total.pixels for channel in range(channels)]
    squares = [total.squares[channel] / total.pixels for channel in range(channels)]
    deviations = [float(max(b - a * a, Fraction(0))) ** 0.5 for a, b in zip(means, squares, strict=True)]
    return PixelFacts(
        channels=channels,
        type=kind,
        mean=tuple(map(float, means)),
        std=tuple(deviations),
        percentiles={f"{each:g}": tuple(found[:, i].tolist()) for i, each in enumerate(PERCENTILES)},
        shown=shown or tuple(range(min(channels, 3))),
    )


def _count(
    manifest: Manifest, wanted: Wanted | None, workers: int | None, progress: bool, hold: int | None
) -> Count:
    """Count all images, in any number of processes."""
    total = Count()
    samples = sum(shard.nsamples for shard in manifest.shards)
    with Meter("measuring", samples, "images", progress) as meter:
        function = functools.partial(_count_shard, manifest, wanted)
        for count in pool.run(function, manifest.shards, meter, workers, hold):
            total.join(count)
    return total


def _count_shard(manifest: Manifest, wanted: Wanted | None, shard: Shard, tick: Tick) -> Count:
    """Count the images of a shard; runs in a worker process."""
    silence_pillow()
    count = Count()
    for data in _images(manifest, shard):
        with_numbers = _read(data)
        if with_numbers is not None:
            count.add(with_numbers, wanted)
        tick()
    return count


def _images(manifest: Manifest, shard: Shard) -> Iterator[bytes]:
    rows = read_index(manifest, shard)
    with open(manifest.locate(shard), "rb") as file:
        for offset, size in zip(rows.offsets.tolist(), rows.sizes.tolist(), strict=True):
            yield os.pread(file.fileno(), size, offset)


def _read(data: bytes) -> npt.NDArray[Any] | None:
    try:
        return read_values(data)
    except BadImage:  # it was read when its shard was made
        return None


def _keys(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the place of each number in the order of its type: uint8 and uint16, of floats uint32."""
    if plane.dtype == np.int16:
        return plane.view(np.uint16) ^ np.uint16(0x8000)
    if plane.dtype == np.float32:
        bits = (plane + np.float32(0)).view(np.uint32)  # -0 is 0
        return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return plane


def _numbers(keys: npt.NDArray[np.uint32], kind: str) -> npt.NDArray[np.float64]:
    """Return the values of positions, (n,): the inverse of `_keys`."""
    if kind == "float32":
        bits = np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys)
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)
    return keys.astype(np.float64) - (32768 if kind == "int16" else 0)


def _sum_up(total: Count, kind: str) -> None:
    """Take the sums of whole numbers from how often each is there."""
    numbers = [int(each) for each in _numbers(np.arange(_BINS, dtype=np.uint32), kind)]
    for channel, counts in enumerate(total.upper):
        there = [(numbers[place], int(counts[place])) for place in np.flatnonzero(counts)]
        total.sums[channel] = Fraction(sum(number * count for number, count in there))
        total.squares[channel] = Fraction(sum(number * number * count for number, count in there))


def _places(total: Count, channel: int, lower: dict[tuple[int, int], Counts] | None) -> list[int]:
    """Return the places of the percentiles in the order of a channel's numbers; `lower` is of floats."""
    counts = total.upper[channel]
    of_floats = "float32" in total.images
    sums = np.cumsum(counts)
    places = []
    for rank in _ranks(total.pixels, PERCENTILES):
        half = int(np.searchsorted(sums, rank))
        if not of_floats:
            places.append(half)
            continue
        place = 0
        if lower is not None:
            before = int(sums[half] - counts[half])
            place = int(np.searchsorted(np.cumsum(lower[channel, half]), rank - before))
        places.append(half << 16 | place)
    return places


def _ranks(count: int, percentiles: Iterable[float]) -> list[int]:
    """Return how many numbers are to be no greater than each percentile, at least 1."""
    return [max(1, ceil(Fraction(str(each)) * count / 100)) for each in percentiles]
