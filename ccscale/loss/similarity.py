"""Which way the sums over the similarity matrix are taken: fused on an NVIDIA GPU, in tiles everywhere else.

The fused way is tried on a small problem before its first use on a device, against the tiles, which are its oracle:
where it cannot be had or is wrong, the tiles do the work, and a warning says so once.
"""

import importlib.util
import warnings
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ccscale.loss.tiles import RowPulls, RowSums, is_safe

if TYPE_CHECKING:
    from ccscale.loss.fused import FusedRowPulls, FusedRowSums

TOLERANCES = {torch.float16: 5e-3, torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Largest error of the fused sums, of the largest number, by the type of the rows."""


def row_sums(
    rows: Tensor, temperature: float, groups: Tensor | None = None, keep: bool = False
) -> "RowSums | FusedRowSums":
    """Begin sums over the columns of some rows; parameters as of `tiles.RowSums`."""
    if _is_fused(rows, temperature):
        from ccscale.loss.fused import FusedRowSums

        return FusedRowSums(rows, temperature, groups)
    return RowSums(rows, temperature, groups, keep)


def row_pulls(
    rows: Tensor,
    lse: Tensor,
    temperature: float,
    groups: Tensor | None = None,
    kept: Tensor | None = None,
) -> "RowPulls | FusedRowPulls":
    """Begin the gradients' sums over the columns of some rows; parameters as of `tiles.RowPulls`."""
    if _is_fused(rows, temperature):
        from ccscale.loss.fused import FusedRowPulls

        return FusedRowPulls(rows, lse, temperature, groups)
    return RowPulls(rows, lse, temperature, groups, kept)


def _is_fused(rows: Tensor, temperature: float) -> bool:
    if not rows.is_cuda or rows.dtype not in TOLERANCES or not is_safe(temperature):
        return False
    return works(rows.device, rows.dtype, rows.shape[1])


@cache
def works(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Tell whether the fused way can be had on a device, for rows of a type and width, and is right."""
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return False
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from ccscale.loss.fused import LARGEST_WIDTH

        if width > LARGEST_WIDTH:
            return False
        error = largest_error(device, dtype, width)
    except Exception as failure:  # whatever a compiler for this device may meet
        reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
    else:
        if error <= TOLERANCES[dtype]:
            return True
        reason = f"its sums are off by {error:.1e} of the largest, in {dtype}"
    warnings.warn(
        f"the fused instance loss is not used on {device} ({reason}); the tiled one is slower, and as exact",
        stacklevel=2,
    )
    return False


def largest_error(device: torch.device, dtype: torch.dtype, width: int, count: int = 333) -> float:
    """Return the largest error of the fused sums beside the tiles', each of the largest number of its kind.

    The rows are random, in groups and without, and no multiple of a block; half of the columns are the rows
    themselves.
    """
    from ccscale.loss.fused import FusedRowPulls, FusedRowSums

    generator = torch.Generator().manual_seed(0)
    rows, others = (
        torch.nn.functional.normalize(torch.randn(count + extra, width, generator=generator), dim=1)
        .to(device, dtype)
        .detach()
        for extra in (0, 57)
    )
    temperature, errors = 0.1, list[float]()
    some = [torch.arange(len(part), device=device) % 7 for part in (rows, others)]
    for of_rows, of_others in ((None, None), some):
        found, lse = [], None
        for kinds in ((RowSums, RowPulls), (FusedRowSums, FusedRowPulls)):
            sums = kinds[0](rows, temperature, of_rows)
            sums.add_own()
            sums.add(others, of_others)
            # Both take the pulls of the same sums: the tiles'.
            lse = sums.log() if lse is None else lse
            pulls = kinds[1](rows, lse, temperature, of_rows)
            pulls.add_own()
            pulls.add(others, lse.mean().expand(len(others)).contiguous(), of_others)
            found.append((sums.log(), pulls.total()))
        errors += [
            float((fused - tiled).abs().max() / tiled.abs().max())
            for tiled, fused in zip(*found, strict=True)
        ]
    return max(errors) if all(error == error for error in errors) else float("inf")
