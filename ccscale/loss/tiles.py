"""Sums over the similarity matrix, tile by tile: the matrix itself is never stored.

For rows ``u`` (m, d) and columns ``v`` (c, d) of unit length, ``S = u vᵀ / τ``::

    sums     lse_i = log Σ_k e^{S_ik}                              (m,)
    pulls    g_i   = Σ_k (e^{S_ik − lse_i} + e^{S_ik − lse_k}) v_k     (m, d)

There are two implementations. If no similarity exceeds `SAFE` in size, ``E = e^S`` fits float32: then
``g = (E ⊙ (w_i + w_k)) v`` with ``w = e^{−lse}``, and if rows are compared with themselves both factors are
symmetric: a tile above the diagonal also gives the rows below it, and half of S is never computed. Otherwise each
row keeps a running maximum.

On a CPU products dominate: if E of rows with themselves is small, it is kept from the sums to the pulls
(`RowSums.kept`) instead of being recomputed.

Rows and columns may have group numbers: those of the same group, which includes the row itself, are not compared.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from ccscale.loss.dry_run import alike, current

SAFE = 40.0  # e^±40 times 2^32 summands is within float32
CPU_TILE, GPU_TILE = 1024, 8192  # a tile of 4 MB stays in a core's cache; 256 MB keeps a GPU busy
KEPT_BYTES = 2**26  # of E that are kept at most: 5,000 rows in float32


class RowSums:
    """Adds up e^S over the columns of some rows, block of columns by block.

    Parameters
    ----------
    rows
        (m, d), of unit length. What is computed is float32, float64 for float64 rows.
    temperature
        τ.
    groups
        (m,) integers: each row's group, if there are any.
    keep
        Whether pulls will follow.

    Attributes
    ----------
    kept
        E of the rows with themselves, tile by tile on and above the diagonal; None where it is not kept.
    at_once
        Whether the columns of many ranks are better added together than rank by rank.
    """

    at_once = False

    def __init__(
        self, rows: Tensor, temperature: float, groups: Tensor | None = None, keep: bool = False
    ) -> None:
        self.kept: Tensor | None = None
        self._keep, self._root, self._safe = keep, temperature**-0.5, is_safe(temperature)
        self._rows, self._groups = _scaled(rows, self._root), groups
        self._sums = self._rows.new_zeros(len(rows))
        self._most = self._rows.new_full((len(rows),), -torch.inf)

    def add(self, columns: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d), none of which is one of the rows, and whose groups are (c,)."""
        for i, j, similarity in tiles(self._rows, _scaled(columns, self._root)):
            _keep_apart(similarity, self._groups, groups, i, j)
            self._add(i, similarity)

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        if self._safe:
            self.kept = _memory_of_all(self._rows) if self._keep else None
            for i, j, similarity in tiles(self._rows, self._rows, upper=True, kept=self.kept):
                _keep_apart(similarity, self._groups, self._groups, i, j)
                e = similarity.exp_()
                if i == j:
                    e.fill_diagonal_(0)
                else:
                    self._sums[j] += e.sum(dim=0)
                self._sums[i] += e.sum(dim=1)
            return
        for i, j, similarity in tiles(self._rows, self._rows):
            if i == j:
                similarity.fill_diagonal_(-torch.inf)
            _keep_apart(similarity, self._groups, self._groups, i, j)
            self._add(i, similarity)

    def log(self) -> Tensor:
        """Return the logarithms of the sums, (m,)."""
        return self._sums.log() if self._safe else self._sums.log() + self._most

    def _add(self, i: slice, similarity: Tensor) -> None:
        if self._safe:
            self._sums[i] += similarity.exp_().sum(dim=1)
            return
        most = torch.maximum(self._most[i], similarity.amax(dim=1))
        shift = most.where(most > -torch.inf, 0)  # a row that has met nothing but itself
        self._sums[i] *= (self._most[i] - shift).exp_()
        self._sums[i] += similarity.sub_(shift[:, None]).exp_().sum(dim=1)
        self._most[i] = most


class RowPulls:
    """Adds up the gradients' sums over the columns of some rows, block of columns by block.

    Parameters
    ----------
    rows, lse
        (m, d), of unit length, and their logarithms of sums over *all* columns, (m,).
    temperature
        τ.
    groups
        As for `RowSums`.
    kept
        What `RowSums` has kept of the same rows; it is overwritten.
    """

    at_once = False

    def __init__(
        self,
        rows: Tensor,
        lse: Tensor,
        temperature: float,
        groups: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> None:
        self._kept = kept
        self._root, self._safe = temperature**-0.5, is_safe(temperature)
        self._rows, self._lse, self._groups = _scaled(rows, self._root), lse, groups
        self._pulls = torch.zeros_like(self._rows)

    def add(self, columns: Tensor, lse: Tensor, groups: Tensor | None = None) -> None:
        """Add the columns (c, d) with their logarithms of sums (c,), none of which is one of the rows."""
        columns = _scaled(columns, self._root)
        for i, j, similarity in tiles(self._rows, columns):
            _keep_apart(similarity, self._groups, groups, i, j)
            self._pulls[i].addmm_(self._weights(similarity, i, lse[j]), columns[j])

    def add_own(self) -> None:
        """Add the rows themselves as columns; no row meets itself."""
        for i, j, weights in self._own_weights():
            self._pulls[i].addmm_(weights, self._rows[j])
            if i != j:
                self._pulls[j].addmm_(weights.T, self._rows[i])

    def _own_weights(self) -> Iterator[tuple[slice, slice, Tensor]]:
        if self._kept is not None:
            for i, j, e in _laid_out(self._kept, self._rows, self._rows, upper=True):
                yield i, j, self._weighted(e, i, self._lse[j])
            return
        for i, j, similarity in tiles(self._rows, self._rows, upper=True):
            if i == j:
                similarity.fill_diagonal_(-torch.inf)
            _keep_apart(similarity, self._groups, self._groups, i, j)
            yield i, j, self._weights(similarity, i, self._lse[j])

    def total(self) -> Tensor:
        """Return g, (m, d); nothing can be added any more."""
        return self._pulls.div_(self._root)  # the columns were scaled

    def _weights(self, similarity: Tensor, i: slice, lse: Tensor) -> Tensor:
        """Return e^{S_ik − lse_i} + e^{S_ik − lse_k} of a tile, which is overwritten."""
        if self._safe:
            return self._weighted(similarity.exp_(), i, lse)
        weights = torch.exp(similarity - lse)
        return weights.add_(similarity.sub_(self._lse[i, None]).exp_())

    def _weighted(self, e: Tensor, i: slice, lse: Tensor) -> Tensor:
        return e.mul_(self._lse[i, None].neg().exp() + lse.neg().exp())


def is_safe(temperature: float) -> bool:
    """Return whether no similarity of rows of unit length exceeds `SAFE` in size."""
    return 1 / temperature <= SAFE


def computed_in(rows: Tensor) -> Tensor:
    """Return rows in the type that is computed in."""
    return rows if rows.dtype == torch.float64 else rows.float()


def _keep_apart(
    similarity: Tensor, of_rows: Tensor | None, of_columns: Tensor | None, i: slice, j: slice
) -> None:
    """Take what is of one group out of a tile."""
    if of_rows is not None and of_columns is not None:
        similarity.masked_fill_(of_rows[i, None] == of_columns[j], -torch.inf)


def _scaled(rows: Tensor, factor: float) -> Tensor:
    return computed_in(rows) * factor


def tiles(
    rows: Tensor, columns: Tensor, upper: bool = False, kept: Tensor | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, columns, their part of S) over all of S, or over the tiles on and above its diagonal.

    The tile may be changed; it is the same memory each time, or its own part of `kept`.
    """
    size = _size(rows)
    memory = rows.new_empty(min(size, len(rows)) * min(size, len(columns))) if kept is None else kept
    for i, j, tile in _laid_out(memory, rows, columns, upper, apart=kept is not None):
        yield i, j, torch.mm(rows[i], columns[j].T, out=tile)


@alike
def _laid_out(
    memory: Tensor, rows: Tensor, columns: Tensor, upper: bool, apart: bool = True
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, columns, the tile's place in `memory`): one behind the other, or all at its beginning."""
    size, place = _size(rows), 0
    for first in range(0, len(rows), size):
        i = slice(first, min(first + size, len(rows)))
        for start in range(first if upper else 0, len(columns), size):
            j = slice(start, min(start + size, len(columns)))
            shape = i.stop - i.start, j.stop - j.start
            yield i, j, memory[place : place + shape[0] * shape[1]].view(shape)
            place += _room(*shape) if apart else 0


def _room(rows: int, columns: int) -> int:
    """Return the numbers from a tile to the next: each begins as a tensor does, since products round by that."""
    return -(-rows * columns // 16) * 16


def _size(rows: Tensor) -> int:
    return GPU_TILE if _on_gpu(rows) else CPU_TILE


def _on_gpu(rows: Tensor) -> bool:
    dry = current()
    return rows.is_cuda or (dry is not None and dry.cuda)


def _memory_of_all(rows: Tensor) -> Tensor | None:
    """Return memory for the tiles on and above the diagonal, where they are to be kept."""
    if _on_gpu(rows) or len(rows) * (len(rows) + CPU_TILE) // 2 * rows.element_size() > KEPT_BYTES:
        return None
    sides = [min(CPU_TILE, len(rows) - first) for first in range(0, len(rows), CPU_TILE)]
    count = sum(_room(*pair) for pair in combinations_with_replacement(sides, 2))
    return rows.new_empty(count)
