"""Lloyd's algorithm over any number of vectors, on any number of ranks.

The centres are the same, bit for bit, on any number of ranks: blocks depend only on the number of vectors, and
sums over blocks and ranks are sums of integers (`_sums`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ccscale import dist
from ccscale.errors import InputError
from ccscale.features.buffers import Buffers
from ccscale.features.vectors import BLOCK, Vectors, unit
from ccscale.progress import Meter

TOLERANCE = 1e-5  # a pass that lowers the inertia by less, relative to it, is the last
SCORES = 2**24  # distances that are held at a time
PART = 512  # vectors that a CPU adds up at a time: they stay in its cache


class Blocks:
    """A rank's share of the vectors, block by block, with the number of the first of each."""

    def __init__(self, vectors: Vectors, device: torch.device, keep: bool) -> None:
        self.vectors, self.device = vectors, device
        self._kept: list[tuple[int, Tensor]] | None = None
        if keep:
            self._kept = list(self)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        for start in range(dist.rank() * BLOCK, len(self.vectors), dist.world() * BLOCK):
            yield start, self.vectors.span(start, start + BLOCK).to(self.device)


@dataclass(frozen=True)
class Scale:
    """What vectors are multiplied by before they are rounded to whole numbers and added up."""

    factor: float
    squares: float
    """Sum of the squares of all entries, in the blocks it was taken of."""


def scale_of(blocks: Blocks, rows: int) -> Scale:
    """Return a scale with which so many rows add up to less than 2^53; refuse what is no number."""
    largest, squares, buffers = 0.0, [], Buffers(blocks.device)
    for _, block in blocks:
        of_block = float(torch.linalg.vector_norm(block, ord=math.inf))  # the largest of them, without a copy
        largest = max(largest, of_block) if math.isfinite(of_block) else math.inf
        wide = buffers.take("wide", *block.shape, dtype=torch.float64)
        squares.append(float(wide.copy_(block).square_().sum()))
    of_ranks = dist.all_objects((largest, squares))
    largest = max(one for one, _ in of_ranks)
    if not math.isfinite(largest):
        raise InputError("some features are not finite; recreate the store with `ccscale embed`")
    bits = min(53 - rows.bit_length() - math.frexp(largest)[1], 126)  # of a float32, too
    return Scale(2.0**bits, math.fsum(one for _, some in of_ranks for one in some))


@dataclass(frozen=True)
class LloydResult:
    centres: Tensor
    inertia: float
    passes: int


def lloyd(
    blocks: Blocks, centres: Tensor, scale: Scale, spherical: bool, most: int, show: bool = False
) -> LloydResult:
    """Move the centres until the inertia stays, or for `most` passes; the inertia is that of the last but one."""
    before, passes = math.inf, 0
    with Meter("k-means over all", most, "passes", show and dist.rank() == 0) as meter:
        for _ in range(most):
            passes += 1
            sums, counts = _sums(blocks, centres, scale)
            squares = centres.double().square().sum(1)
            inertia = scale.squares - 2 * float((sums * centres).sum()) + float(squares @ counts.double())
            inertia = max(inertia, 0.0)
            centres = _moved(sums, counts, centres, spherical)
            meter.advance()
            if before < math.inf and before - inertia <= TOLERANCE * before and bool((counts > 0).all()):
                break
            before = inertia
    return LloydResult(centres, inertia, passes)


def _sums(blocks: Blocks, centres: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return the sum (K, D) float64 and the number (K,) of each centre's vectors, over all ranks.

    Entries are rounded to whole numbers, of a unit below float32's rounding of the largest, which doubles add up
    without rounding: no order changes the sum.
    """
    sums = torch.zeros(centres.shape, dtype=torch.float64, device=centres.device)
    counts = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    for _, block in blocks:
        nearest = nearest_centres(block, centres)
        counts += torch.bincount(nearest, minlength=len(centres))
        rows = PART if block.device.type == "cpu" else len(block)
        for part, places in zip(block.split(rows), nearest.split(rows), strict=True):
            # Exact in float32 already: a multiplication by a power of two, and integers that it holds.
            sums.index_add_(0, places, (part * scale.factor).round_().double())
    dist.sum_(sums)
    dist.sum_(counts)
    return sums / scale.factor, counts


def nearest_centres(block: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of each vector, (m,); the first of ties."""
    half = centres.square().sum(1) / 2
    rows = max(1, SCORES // len(centres))
    parts = [torch.addmm(half, part, centres.T, beta=-1).argmax(1) for part in block.split(rows)]
    return torch.cat(parts)


def _moved(sums: Tensor, counts: Tensor, centres: Tensor, spherical: bool) -> Tensor:
    """Return the means, and for an empty cluster a half of the largest one."""
    moved = (sums / counts.clamp_min(1)[:, None]).float()
    if spherical:
        length = moved.norm(dim=1, keepdim=True)
        moved = torch.where(length > 1e-12, unit(moved), centres)
    sizes = counts.clone()
    for empty in torch.nonzero(counts == 0).flatten().tolist():
        large = int(sizes.argmax())
        signs = torch.where(torch.arange(moved.shape[1], device=moved.device) % 2 == 0, 1e-3, -1e-3)
        moved[empty], moved[large] = moved[large] * (1 + signs), moved[large] * (1 - signs)
        sizes[empty] = sizes[large] // 2
        sizes[large] -= sizes[empty]
    return moved
