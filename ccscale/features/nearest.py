"""The nearest of many vectors by cosine, tile by tile: memory is that of one tile, however many vectors there
are.

In each tile of cosines, only those above the k-th nearest so far are examined: after the first tile these are
few. Ties are broken by order.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ccscale.features.buffers import Buffers
from ccscale.features.vectors import BLOCK, Vectors


def tiles(vectors: Vectors, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all vectors and their numbers, `BLOCK` at a time: a bank for `nearest`."""
    for start in range(0, len(vectors), BLOCK):
        block = vectors.span(start, start + BLOCK).to(device)
        yield torch.arange(start, start + len(block), device=device), block


def nearest(
    queries: Tensor,
    own: Tensor,
    bank: Iterable[tuple[Tensor, Tensor]],
    k: int,
    buffers: Buffers | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the k nearest of each query, the nearest first.

    Parameters
    ----------
    queries
        (q, D), of length 1; of a type below float32 the cosines are rounded to it. There may be more rows, of any
        content, in `queries` and in the bank's vectors: they are passed over.
    own
        (q,) int64: the number of each, which is not its own neighbour.
    bank
        Numbers (b,) int64, rising, and vectors (b, D) of length 1; more than k of them in all.
    k
        How many.
    buffers
        On the same device, for what is worked out of a tile; where there are many searches, the same for all.

    Returns
    -------
    tuple
        Cosines (q, k) float32 and numbers (q, k) int64; -inf and -1 where the bank has fewer.
    """
    buffers = buffers or Buffers(queries.device)
    best = queries.new_full((len(own), k), -torch.inf, dtype=torch.float32)
    found = own.new_full((len(own), k), -1)
    for numbers, vectors in bank:
        products = buffers.take("products", len(queries), len(vectors), dtype=queries.dtype)
        cosines = torch.mm(queries, vectors.T, out=products)[: len(own), : len(numbers)]
        _leave_out(cosines, own, numbers)
        least = best[:, -1:].to(cosines.dtype)
        empty = bool(torch.isinf(least).any())
        if empty and len(numbers) > k:  # the k-th of this tile is a bound, too, and its equals are within
            least = torch.maximum(least, cosines.topk(k, dim=1).values[:, -1:])
        keep = buffers.take("keep", *cosines.shape, dtype=torch.bool)
        if empty:
            torch.ge(cosines, least, out=keep).logical_and_(cosines > -torch.inf)
        else:
            torch.gt(cosines, least, out=keep)
        best, found = _merged(best, found, cosines, numbers, keep)
    return best, found


def _leave_out(cosines: Tensor, own: Tensor, numbers: Tensor) -> None:
    """Make each query's own cosine, where it is in the tile, the least."""
    place = torch.searchsorted(numbers, own).clamp_max(len(numbers) - 1)
    itself = torch.nonzero(numbers[place] == own).flatten()
    cosines[itself, place[itself]] = -torch.inf


def _merged(
    best: Tensor, found: Tensor, cosines: Tensor, numbers: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the nearest of those that there were and those of a tile that are to be kept."""
    rows, columns = torch.nonzero(keep, as_tuple=True)  # by row, then by column
    if not len(rows):
        return best, found
    counts = torch.bincount(rows, minlength=len(best))
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    new = best.new_full((len(best), int(counts.max())), -torch.inf)
    new_found = found.new_full(new.shape, -1)
    new[rows, place] = cosines[rows, columns].float()
    new_found[rows, place] = numbers[columns]
    both, order = torch.cat([best, new], 1).sort(dim=1, descending=True, stable=True)
    k = best.shape[1]
    return both[:, :k].contiguous(), torch.cat([found, new_found], 1).gather(1, order[:, :k])
