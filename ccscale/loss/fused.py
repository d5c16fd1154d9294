"""The sums of `tiles.py` in fused kernels on an NVIDIA GPU (`kernels.py`): no tile of S leaves the chip.

A program holds a block of rows in registers and iterates over the columns, fusing product, exponential and sum
(and, in the backward pass, the second product), as FlashAttention does (Dao et al. 2022). Similarities of rows of
unit length are bounded, so no running maximum is needed if `tiles.is_safe`. Products are of float16 numbers or,
for the accuracy of float32, of two float16 numbers per value; they are accumulated in float32. If there are few
rows, the columns are split over several programs, whose partial sums are added afterwards, always in the same
order.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from ccscale.loss.kernels import BLOCK, prepared, pulls_kernel, sums_kernel
from ccscale.loss.tuning import fastest

ROWS_AT_LEAST = 128 * 256  # rows that keep a GPU busy on their own; with fewer, columns are dealt out too
MOST_PARTS = 64
LEAST_PART = 512  # columns that are worth a program
LOG2_E = 1.4426950408889634
WEIGHT_SCALE = (
    2.0**12
)  # weights are at most 2, and 1 / N as a rule: so they are within float16, and not at its end


class FusedRowSums:
    """`tiles.RowSums` on a GPU, of (m, d) rows in float16, bfloat16 or float32, d at most
    `similarity.LARGEST_WIDTH`.

    Parameters
    ----------
    rows, temperature, groups
        As there.
    half
        Whether each number is one float16 in the products; else two, for what is as exact as float32.
    keep
        Whether pulls will follow.

    Attributes
    ----------
    kept
        The rows as the kernels take them; None where they are not kept.
    """

    at_once = True

    def __init__(
        self,
        rows: Tensor,
        temperature: float,
        groups: Tensor | None = None,
        half: bool = False,
        keep: bool = False,
    ) -> None:
        self._half, self._root, self._groups = half, _root(temperature), groups
        self._rows, self._count = prepared(rows, self._root, half), len(rows)
        self.kept = self._rows if keep else None
        self._sums: Tensor | None = None

    def add(self, columns: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d), none of which is one of the rows."""
        self._add(prepared(columns, self._root, self._half), len(columns), groups, own=False)

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        self._add(self._rows, self._count, self._groups, own=True)

    def log(self) -> Tensor:
        """Return the logarithms of the sums, (m,)."""
        assert self._sums is not None
        return self._sums.log()

    def _add(self, columns: Tensor, count: int, groups: Tensor | None, own: bool) -> None:
        out = launch_sums(self._rows, columns, (self._count, count), self._groups, groups, own)
        sums = out.sum(dim=0)
        self._sums = sums if self._sums is None else self._sums.add_(sums)


class FusedRowPulls:
    """`tiles.RowPulls` on a GPU; see `FusedRowSums`, which has `kept` the same rows with the same `half`."""

    at_once = True

    def __init__(
        self,
        rows: Tensor,
        lse: Tensor,
        temperature: float,
        groups: Tensor | None = None,
        half: bool = False,
        kept: Tensor | None = None,
    ) -> None:
        self._half, self._root, self._groups = half, _root(temperature), groups
        self._rows = prepared(rows, self._root, half) if kept is None else kept
        self._shape = rows.shape
        self._weights = _weights(lse)
        self._pulls: Tensor | None = None

    def add(self, columns: Tensor, lse: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d) with their logarithms of sums (c,), none of which is one of the rows."""
        self._add(prepared(columns, self._root, self._half), _weights(lse), groups, own=False)

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        self._add(self._rows, self._weights, self._groups, own=True)

    def total(self) -> Tensor:
        """Return g, (m, d)."""
        assert self._pulls is not None
        return self._pulls[:, : self._shape[1]] / (self._root * WEIGHT_SCALE)

    def _add(self, columns: Tensor, weights: Tensor, groups: Tensor | None, own: bool) -> None:
        counts = self._shape[0], len(weights)
        out = launch_pulls(self._rows, columns, self._weights, weights, counts, self._groups, groups, own)
        pulls = out.sum(dim=0) if len(out) > 1 else out[0]
        self._pulls = pulls if self._pulls is None else self._pulls.add_(pulls)


def launch_sums(
    rows: Tensor,
    columns: Tensor,
    counts: tuple[int, int],
    of_rows: Tensor | None,
    of_columns: Tensor | None,
    own: bool,
    config: dict[str, int] | None = None,
) -> Tensor:
    """Return e^S of prepared rows, summed over each part of the columns: (parts, m)."""
    parts, arguments = _arguments(rows, columns, counts, of_rows, of_columns, own)
    config = config or fastest(launch_sums, rows.device, len(rows), rows.shape[2], *counts)
    out = rows.new_empty((parts, counts[0]), dtype=torch.float32)
    sums_kernel[triton.cdiv(counts[0], config["ROWS"]), parts](OUT=out, **arguments, **config)
    return out


def launch_pulls(
    rows: Tensor,
    columns: Tensor,
    w_rows: Tensor,
    w_columns: Tensor,
    counts: tuple[int, int],
    of_rows: Tensor | None,
    of_columns: Tensor | None,
    own: bool,
    config: dict[str, int] | None = None,
) -> Tensor:
    """Return the weighted sums of prepared columns over each part of them: (parts, m, WIDTH)."""
    parts, arguments = _arguments(rows, columns, counts, of_rows, of_columns, own)
    config = config or fastest(launch_pulls, rows.device, len(rows), rows.shape[2], *counts)
    out = rows.new_empty((parts, counts[0], rows.shape[2]), dtype=torch.float32)
    pulls_kernel[triton.cdiv(counts[0], config["ROWS"]), parts](
        W_U=w_rows, W_V=w_columns, OUT=out, **arguments, **config
    )
    return out


def _arguments(
    rows: Tensor,
    columns: Tensor,
    counts: tuple[int, int],
    of_rows: Tensor | None,
    of_columns: Tensor | None,
    own: bool,
) -> tuple[int, dict[str, Any]]:
    """Return into how many parts the columns are cut, and what both kernels are given."""
    m, c = counts
    part = max(LEAST_PART, -(-c // min(MOST_PARTS, max(1, ROWS_AT_LEAST // m))))
    part = -(-part // BLOCK) * BLOCK
    apart = of_rows is not None and of_columns is not None
    return -(-c // part), {
        "U": rows[0],
        "U_LOW": rows[-1],
        "V": columns[0],
        "V_LOW": columns[-1],
        "G_U": of_rows if apart else rows,  # not looked at
        "G_V": of_columns if apart else rows,
        "m": m,
        "c": c,
        "part": part,
        "OWN": own,
        "APART": apart,
        "PARTS": len(rows),
        "WIDTH": rows.shape[2],
    }


def _root(temperature: float) -> float:
    return float((LOG2_E / temperature) ** 0.5)


def _weights(lse: Tensor) -> Tensor:
    return lse.neg().exp() * WEIGHT_SCALE
