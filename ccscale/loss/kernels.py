"""The Triton kernels of `fused.py`: a program holds a block of rows and iterates over the columns, tile by tile.

Rows are scaled by √(log₂e / τ), so that e^S is the exponential to the base 2 of a product. They are float16,
padded with zeros to `WIDTH` numbers and to a whole number of blocks: only the products of a row with itself and
the ragged end are masked. float16 has 11 significant bits, bfloat16 8, at the same speed. For the accuracy of
float32, each number has a second float16, the rounding error of the first (22 bits together), and three products
are computed.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128  # ROWS and COLUMNS divide it: rows and parts of the columns are padded to it


def prepared(rows: Tensor, root: float, half: bool) -> Tensor:
    """Return rows as the kernels take them: (1, m', WIDTH) in float16, or (2, m', WIDTH) with what rounding left.

    m' is m, padded to a multiple of `BLOCK`.
    """
    (count, d), width = rows.shape, max(16, triton.next_power_of_2(rows.shape[1]))  # tl.dot takes 16 at least
    padded = -(-count // BLOCK) * BLOCK
    rows = rows.float()
    if (padded, width) != (count, d):
        rows = F.pad(rows, (0, width - d, 0, padded - count))
    parts = rows.new_empty((1 if half else 2, padded, width), dtype=torch.float16)
    torch.mul(rows, root, out=parts[0])
    if not half:
        torch.sub(rows * root, parts[0], out=parts[1])
    return parts


@triton.jit
def _exponentials(u, u_low, v, v_low, PARTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return e^S of a tile."""
    s = tl.dot(u, tl.trans(v))
    if PARTS == 2:
        s = tl.dot(u, tl.trans(v_low), s)
        s = tl.dot(u_low, tl.trans(v), s)
    return tl.exp2(s)


@triton.jit
def _without(  # type: ignore[no-untyped-def]
    e, g_u, G_V, i0, start, c, OWN: tl.constexpr, APART: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Return a tile without what does not count: a row with itself or its group, what is past the last column."""
    j = start + tl.arange(0, COLUMNS)
    if APART:
        g_v = tl.load(G_V + j, mask=j < c, other=0)
        e = tl.where(g_u[:, None] != g_v[None, :], e, 0.0)
    matters = start + COLUMNS > c
    if OWN:
        matters = matters | ((start < i0 + ROWS) & (start + COLUMNS > i0))
    if matters:
        keep = j[None, :] < c
        if OWN:
            keep = keep & (i0 + tl.arange(0, ROWS)[:, None] != j[None, :])
        e = tl.where(keep, e, 0.0)
    return e


@triton.jit
def sums_kernel(  # type: ignore[no-untyped-def]  # Triton reads annotations as types of its own
    U, U_LOW, V, V_LOW, G_U, G_V, OUT, m, c, part, OWN: tl.constexpr, APART: tl.constexpr, PARTS: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write Σ_k e^{S_ik} over each part of the columns: OUT (parts, m)."""
    i0 = tl.program_id(0) * ROWS
    i = i0 + tl.arange(0, ROWS)
    k = tl.arange(0, WIDTH)
    of_rows = i0.to(tl.int64) * WIDTH + (tl.arange(0, ROWS)[:, None] * WIDTH + k[None, :])
    of_tile = tl.arange(0, COLUMNS)[:, None] * WIDTH + k[None, :]
    u = tl.load(U + of_rows)
    u_low = tl.load(U_LOW + of_rows) if PARTS == 2 else u
    g_u = tl.load(G_U + i, mask=i < m, other=0) if APART else i
    total = tl.zeros((ROWS,), tl.float32)
    first = tl.program_id(1) * part
    for start in range(first, tl.minimum(first + part, c), COLUMNS):
        tile = tl.cast(start, tl.int64) * WIDTH
        v = tl.load(V + tile + of_tile)
        v_low = tl.load(V_LOW + tile + of_tile) if PARTS == 2 else v
        e = _exponentials(u, u_low, v, v_low, PARTS)
        total += tl.sum(_without(e, g_u, G_V, i0, start, c, OWN, APART, ROWS, COLUMNS), axis=1)
    tl.store(OUT + tl.program_id(1).to(tl.int64) * m + i, total, mask=i < m)


@triton.jit
def pulls_kernel(  # type: ignore[no-untyped-def]
    U, U_LOW, V, V_LOW, G_U, G_V, W_U, W_V, OUT, m, c, part, OWN: tl.constexpr, APART: tl.constexpr,
    PARTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write Σ_k e^{S_ik} (w_i + w_k) v_k over each part of the columns: OUT (parts, m, WIDTH)."""
    i0 = tl.program_id(0) * ROWS
    i = i0 + tl.arange(0, ROWS)
    k = tl.arange(0, WIDTH)
    of_rows = i0.to(tl.int64) * WIDTH + (tl.arange(0, ROWS)[:, None] * WIDTH + k[None, :])
    of_tile = tl.arange(0, COLUMNS)[:, None] * WIDTH + k[None, :]
    u = tl.load(U + of_rows)
    u_low = tl.load(U_LOW + of_rows) if PARTS == 2 else u
    g_u = tl.load(G_U + i, mask=i < m, other=0) if APART else i
    w_u = tl.load(W_U + i, mask=i < m, other=0.0)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    first = tl.program_id(1) * part
    for start in range(first, tl.minimum(first + part, c), COLUMNS):
        tile = tl.cast(start, tl.int64) * WIDTH
        v = tl.load(V + tile + of_tile)
        v_low = tl.load(V_LOW + tile + of_tile) if PARTS == 2 else v
        j = start + tl.arange(0, COLUMNS)
        w_v = tl.load(W_V + j, mask=j < c, other=0.0)
        e = _exponentials(u, u_low, v, v_low, PARTS) * (w_u[:, None] + w_v[None, :])
        e = _without(e, g_u, G_V, i0, start, c, OWN, APART, ROWS, COLUMNS)
        weights = e.to(v.dtype)
        if PARTS == 2:
            # A tile's by itself: what tensor cores add up in a long chain, they cut off, and do not round.
            pulls = tl.dot((e - weights.to(tl.float32)).to(v.dtype), v)
            pulls = tl.dot(weights, v_low, pulls)
            total += tl.dot(weights, v, pulls)
        else:
            total = tl.dot(weights, v, total)
    out = OUT + (tl.program_id(1).to(tl.int64) * m + i0) * WIDTH
    tl.store(out + (tl.arange(0, ROWS)[:, None] * WIDTH + k[None, :]), total, mask=i[:, None] < m)
