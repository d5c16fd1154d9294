"""The sums of `tiles.py` on an NVIDIA GPU, fused: no tile of S ever leaves the chip (Triton).

A program has a block of rows in registers and goes over the columns: product, exponential and sum at once (and the
second product, going backward), as FlashAttention does (Dao et al. 2022). Similarities of rows of unit length are
bounded, so no running maximum is needed where `tiles.is_safe`. Products are taken of the inputs as they are, bf16
or float32 (in three TF32 products), and added up in float32. Where there are few rows, the columns are dealt to
several programs, and their parts are added up afterwards, in the same order each time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_WIDTH = 256
ROWS_AT_LEAST = 128 * 256  # rows that keep a GPU busy by themselves; with fewer, columns are dealt out too
MOST_PARTS = 16
LOG2_E = 1.4426950408889634

# Which is fastest depends on the GPU: each is tried at the first call of a width and type.
_CONFIGS = [
    triton.Config({"ROWS": rows, "COLUMNS": columns}, num_warps=warps, num_stages=stages)
    for rows, columns, warps, stages in ((128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 3))
]


@triton.autotune(configs=_CONFIGS, key=["WIDTH", "PRECISION", "d"])
@triton.jit
def _sums_kernel(  # type: ignore[no-untyped-def]  # Triton reads annotations as types of its own
    U, V, G_U, G_V, OUT, m, c, d, part, scale, OWN: tl.constexpr, APART: tl.constexpr, WIDTH: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, WIDTH)
    if APART:
        g_u = tl.load(G_U + i, mask=i < m, other=0)
    u = tl.load(
        U + i[:, None].to(tl.int64) * d + k[None, :], mask=(i[:, None] < m) & (k[None, :] < d), other=0.0
    )
    total = tl.zeros((ROWS,), tl.float32)
    first = tl.program_id(1) * part
    for start in range(first, tl.minimum(first + part, c), COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        v = tl.load(
            V + j[:, None].to(tl.int64) * d + k[None, :], mask=(j[:, None] < c) & (k[None, :] < d), other=0.0
        )
        e = tl.exp2(tl.dot(u, tl.trans(v), input_precision=PRECISION) * scale)
        keep = (j[None, :] < c) & (i[:, None] < m)
        if OWN:
            keep = keep & (i[:, None] != j[None, :])
        if APART:
            g_v = tl.load(G_V + j, mask=j < c, other=0)
            keep = keep & (g_u[:, None] != g_v[None, :])
        total += tl.sum(tl.where(keep, e, 0.0), axis=1)
    tl.store(OUT + tl.program_id(1).to(tl.int64) * m + i, total, mask=i < m)


@triton.autotune(configs=_CONFIGS, key=["WIDTH", "PRECISION", "d"])
@triton.jit
def _pulls_kernel(  # type: ignore[no-untyped-def]
    U, V, G_U, G_V, W_U, W_V, OUT, m, c, d, part, scale, OWN: tl.constexpr, APART: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, WIDTH)
    if APART:
        g_u = tl.load(G_U + i, mask=i < m, other=0)
    inside = (i[:, None] < m) & (k[None, :] < d)
    place = i[:, None].to(tl.int64) * d + k[None, :]
    u = tl.load(U + place, mask=inside, other=0.0)
    w_u = tl.load(W_U + i, mask=i < m, other=0.0)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    first = tl.program_id(1) * part
    for start in range(first, tl.minimum(first + part, c), COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        v = tl.load(
            V + j[:, None].to(tl.int64) * d + k[None, :], mask=(j[:, None] < c) & (k[None, :] < d), other=0.0
        )
        w_v = tl.load(W_V + j, mask=j < c, other=0.0)
        e = tl.exp2(tl.dot(u, tl.trans(v), input_precision=PRECISION) * scale)
        keep = (j[None, :] < c) & (i[:, None] < m)
        if OWN:
            keep = keep & (i[:, None] != j[None, :])
        if APART:
            g_v = tl.load(G_V + j, mask=j < c, other=0)
            keep = keep & (g_u[:, None] != g_v[None, :])
        weights = tl.where(keep, e * (w_u[:, None] + w_v[None, :]), 0.0)
        total += tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
    tl.store(OUT + tl.program_id(1).to(tl.int64) * m * d + place, total, mask=inside)


class FusedRowSums:
    """`tiles.RowSums` on a GPU, of (m, d) rows in float16, bfloat16 or float32, d at most `LARGEST_WIDTH`."""

    kept = None

    def __init__(self, rows: Tensor, temperature: float, groups: Tensor | None = None) -> None:
        self._rows, self._scale, self._groups = rows.contiguous(), LOG2_E / temperature, groups
        self._sums = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)

    def add(self, columns: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d), none of which is one of the rows."""
        self._add(columns.contiguous(), groups, own=False)

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        self._add(self._rows, self._groups, own=True)

    def log(self) -> Tensor:
        """Return the logarithms of the sums, (m,)."""
        return self._sums.log()

    def _add(self, columns: Tensor, groups: Tensor | None, own: bool) -> None:
        parts, arguments = _arguments(self._rows, columns, self._scale, own, self._groups, groups)
        out = torch.empty((parts, len(self._rows)), dtype=torch.float32, device=columns.device)
        _sums_kernel[_grid(len(self._rows), parts)](self._rows, columns, OUT=out, **arguments)
        self._sums += out.sum(dim=0)


class FusedRowPulls:
    """`tiles.RowPulls` on a GPU; see `FusedRowSums`."""

    def __init__(self, rows: Tensor, lse: Tensor, temperature: float, groups: Tensor | None = None) -> None:
        self._rows, self._scale, self._groups = rows.contiguous(), LOG2_E / temperature, groups
        self._weights = lse.neg().exp()
        self._pulls = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)

    def add(self, columns: Tensor, lse: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d) with their logarithms of sums (c,), none of which is one of the rows."""
        self._add(columns.contiguous(), lse.neg().exp(), groups, own=False)

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        self._add(self._rows, self._weights, self._groups, own=True)

    def total(self) -> Tensor:
        """Return g, (m, d)."""
        return self._pulls

    def _add(self, columns: Tensor, weights: Tensor, groups: Tensor | None, own: bool) -> None:
        parts, arguments = _arguments(self._rows, columns, self._scale, own, self._groups, groups)
        out = torch.empty((parts, *self._rows.shape), dtype=torch.float32, device=columns.device)
        _pulls_kernel[_grid(len(self._rows), parts)](
            self._rows, columns, W_U=self._weights, W_V=weights, OUT=out, **arguments
        )
        self._pulls += out.sum(dim=0) if parts > 1 else out[0]


def _arguments(
    rows: Tensor,
    columns: Tensor,
    scale: float,
    own: bool,
    of_rows: Tensor | None,
    of_columns: Tensor | None,
) -> tuple[int, dict[str, Any]]:
    """Return into how many parts the columns are cut, and what both kernels are given."""
    (m, d), c = rows.shape, len(columns)
    part = -(-c // min(MOST_PARTS, max(1, ROWS_AT_LEAST // m)))
    part = -(-part // 128) * 128
    apart = of_rows is not None and of_columns is not None
    return -(-c // part), {
        "G_U": of_rows if apart else rows,  # not looked at
        "G_V": of_columns if apart else rows,
        "APART": apart,
        "m": m,
        "c": c,
        "d": d,
        "part": part,
        "scale": scale,
        "OWN": own,
        "WIDTH": max(16, triton.next_power_of_2(d)),  # tl.dot takes 16 at least
        "PRECISION": "tf32x3" if rows.dtype == torch.float32 else "ieee",
    }


def _grid(m: int, parts: int) -> Any:
    return lambda meta: (triton.cdiv(m, meta["ROWS"]), parts)
