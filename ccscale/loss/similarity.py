"""Selects the implementation of the sums over the similarity matrix: fused on an NVIDIA GPU, tiles everywhere
else.

Before its first use on a device, the fused implementation is compared with the tiles on a small problem: if it is
unavailable or wrong, the tiles are used, with a warning. Then both are timed once at the actual size, and the
faster one is used.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ccscale.kernel_trial import passes
from ccscale.loss.tiles import GPU_TILE, RowPulls, RowSums, is_safe

if TYPE_CHECKING:
    from ccscale.loss.fused import FusedRowPulls, FusedRowSums

Ways = tuple[Callable[..., Any], Callable[..., Any]]  # of sums, and of pulls
TILED_WAYS: Ways = RowSums, RowPulls
TYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_WIDTH = 512
"""Numbers in a row that the fused kernels' blocks have room for."""
TOLERANCES = {True: 5e-3, False: 2e-5}
"""Largest error of the fused sums, of the largest number, by whether products are of one float16 a number."""


def row_sums(
    rows: Tensor, temperature: float, groups: Tensor | None = None, keep: bool = False, half: bool = False
) -> "RowSums | FusedRowSums":
    """Begin sums over the columns of some rows; parameters as for `tiles.RowSums` and `fused.FusedRowSums`."""
    half = half or rows.dtype != torch.float32
    if _is_fused(rows, temperature, half):
        from ccscale.loss.fused import FusedRowSums

        return FusedRowSums(rows, temperature, groups, half, keep)
    return RowSums(rows, temperature, groups, keep)


def row_pulls(
    rows: Tensor,
    lse: Tensor,
    temperature: float,
    groups: Tensor | None = None,
    kept: Tensor | None = None,
    half: bool = False,
) -> "RowPulls | FusedRowPulls":
    """Begin the gradients' sums over the columns of some rows; parameters as of the classes."""
    half = half or rows.dtype != torch.float32
    if _is_fused(rows, temperature, half):
        from ccscale.loss.fused import FusedRowPulls

        return FusedRowPulls(rows, lse, temperature, groups, half, kept)
    return RowPulls(rows, lse, temperature, groups, kept)


def _is_fused(rows: Tensor, temperature: float, half: bool) -> bool:
    if not rows.is_cuda or rows.dtype not in TYPES or not is_safe(temperature):
        return False
    count, width = rows.shape
    return works(rows.device, width, half) and is_faster(rows.device, width, half, (count - 1).bit_length())


@cache
def works(device: torch.device, width: int, half: bool) -> bool:
    """Return whether the fused way can be had on a device, for rows of a width, and is right."""
    if width > LARGEST_WIDTH:
        return False
    return passes(
        device,
        lambda: largest_error(device, width, half),
        TOLERANCES[half],
        f"its sums are off by {{:.1e}} of the largest, of {width} numbers a row",
        "the fused instance loss is not used on {} ({}); the tiled one is slower, and as exact",
    )


@cache
def is_faster(device: torch.device, width: int, half: bool, bits: int) -> bool:
    """Return whether the fused sums and pulls of 2**bits rows with themselves take less time than the tiles'.

    More rows than a tile has go the same way as so many.
    """
    from ccscale.loss.tuning import milliseconds

    rows = _random_rows(min(GPU_TILE, 2**bits), width, device)
    try:
        with torch.cuda.device(device):
            fused = milliseconds(lambda: _take(_fused_ways(half), rows))
            return fused <= milliseconds(lambda: _take(TILED_WAYS, rows))
    except torch.cuda.OutOfMemoryError:  # it is the tiles that take more
        return True


def largest_error(device: torch.device, width: int, half: bool, count: int = 333) -> float:
    """Return the largest error of the fused sums beside the tiles' in float64, each of the largest of its kind.

    The rows are random, in groups and without, and no multiple of a block; half of the columns are the rows
    themselves.
    """
    rows, others = (_random_rows(count + extra, width, device) for extra in (0, 57))
    groups = tuple(torch.arange(len(part), device=device) % 7 for part in (rows, others))
    errors = list[float]()
    for of in ((None, None), groups):
        lse, *exact = _take(TILED_WAYS, rows.double(), others.double(), of)
        _, *found = _take(_fused_ways(half), rows, others, of, lse.float())
        errors += [
            float((fused - tiled).abs().max() / tiled.abs().max())
            for tiled, fused in zip(exact, found, strict=True)
        ]
    return float(torch.tensor(errors).max())  # NaN, if one is


def _fused_ways(half: bool) -> Ways:
    from ccscale.loss.fused import FusedRowPulls, FusedRowSums

    return partial(FusedRowSums, half=half), partial(FusedRowPulls, half=half)


def _take(
    ways: Ways,
    rows: Tensor,
    others: Tensor | None = None,
    groups: Sequence[Tensor | None] = (None, None),
    lse: Tensor | None = None,
    temperature: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithms of the sums that the pulls are taken of, those of the sums found, and the pulls.

    What a step keeps from the sums to the pulls is kept here, too.
    """
    begin_sums, begin_pulls = ways
    sums = begin_sums(rows, temperature, groups[0], keep=True)
    sums.add_own()
    if others is not None:
        sums.add(others, groups[1])
    found = sums.log()
    lse = found if lse is None else lse
    pulls = begin_pulls(rows, lse, temperature, groups[0], kept=sums.kept)
    pulls.add_own()
    if others is not None:
        pulls.add(others, lse.mean().expand(len(others)).contiguous(), groups[1])
    return lse, found, pulls.total()


def _random_rows(count: int, width: int, device: torch.device) -> Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(count))
    return torch.nn.functional.normalize(rows, dim=1).to(device)
