"""Instance-level contrastive loss over the global batch (paper, section 'Instance-level Contrastive Head').

With the 2N rows ``Z = [z_a; z_b]`` of all ranks, ``S = Z Zᵀ / τ`` and the positive ``p(i)`` of row i::

    l_i = logsumexp_{k≠i} S_ik − S_ip(i)          loss = mean_i l_i

    ∂loss/∂z_i = [ Σ_{k≠i} (e^{S_ik − lse_i} + e^{S_ik − lse_k}) z_k − 2 z_p(i) ] / (2N τ)

The second line needs the logsumexps of all rows and nothing else from the other ranks, so no gradient is
scattered back. Each rank computes its own 2n rows of S and never keeps them: tile by tile (`tiles.py`), or fused
(`fused.py`).

What is sent: the rows of z once, gathered in the type they have, while the rank's own block of S is computed;
then 2N logsumexps and a number per rank. The backward pass sends nothing. In a ring no rank holds all of z: the
ranks' rows are passed on from rank to rank behind the computation, once forward and once backward.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist
from ccscale.loss.dry_run import alike
from ccscale.loss.inputs import check_inputs
from ccscale.loss.similarity import row_pulls, row_sums
from ccscale.loss.tiles import computed_in

RING_BYTES = 2**30


def instance_loss(
    z_a: Tensor,
    z_b: Tensor,
    temperature: float = 0.5,
    group: ProcessGroup | None = None,
    ring_bytes: int = RING_BYTES,
    check: bool = True,
) -> Tensor:
    """Return the instance-level contrastive loss of the global batch.

    Parameters
    ----------
    z_a, z_b : Tensor
        This rank's embeddings of the two views, (n, d), of unit length; n, d and the type the same on all ranks.
    temperature : float, default 0.5
        The paper's instance-level temperature.
    group : ProcessGroup, optional
        The ranks whose batches make up the global batch; by default all.
    ring_bytes : int, default 2**30
        Where the rows of all ranks together are larger, they go round in a ring instead of being gathered: more
        messages, and the memory of three ranks' rows instead of all ranks'.
    check : bool, default True
        Compare the ranks' shapes first, by a small collective call. Where batches can differ between ranks, they
        would wait for each other for ever; false saves the call where they cannot.

    Returns
    -------
    Tensor
        The loss over the N = nW images, a scalar in float32 (float64 for float64 inputs), the same on all
        ranks. Its gradient to `z_a` and `z_b` is W times the derivative; see `ccscale.loss`.

    Raises
    ------
    ValueError
        If the shapes differ, on this rank or between ranks, or are not (n, d), or the temperature is not above 0.
    """
    check_inputs("z_a and z_b", z_a, z_b, 1, temperature, group, check)
    z = torch.cat([z_a, z_b])  # (2n, d)
    ring = z.nbytes * dist.world(group) > ring_bytes
    return _InstanceLoss.apply(z, temperature, group, ring)


class _InstanceLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, group: ProcessGroup | None, ring: bool) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            others = _Others(z, group, ring)
            sums = row_sums(z, temperature)
            sums.add_own()  # meanwhile the others' rows are on their way
            for _, columns in others:
                sums.add(columns)
            lse = sums.log()
            del sums
            rows = computed_in(z)
            own = (lse - (rows * _positives(rows)).sum(dim=1) / temperature).sum()
            told = dist.gather_rows(torch.cat([lse, own[None]]), group)  # (W, 2n + 1)
        ctx.save_for_backward(z, told[:, :-1], *others.gathered())
        ctx.temperature, ctx.group, ctx.ring = temperature, group, ring
        return told[:, -1].sum() / told[:, :-1].numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        z, all_lse, *gathered = ctx.saved_tensors  # (2n, d), (W, 2n)
        with torch.autocast(z.device.type, enabled=False):
            others = _Others(z, ctx.group, ctx.ring, *gathered)
            pulls = row_pulls(z, all_lse[dist.rank(ctx.group)], ctx.temperature)
            pulls.add_own()
            for rank, columns in others:
                pulls.add(columns, all_lse[rank])
            gradient = pulls.total().sub_(_positives(z), alpha=2)
            # The ranks' average is to be the derivative: W times that is handed on.
            scale = dist.world(ctx.group) / (all_lse.numel() * ctx.temperature)
            gradient *= gradients[0] * scale
        return gradient.to(z.dtype), None, None, None


class _Others:
    """The rows of the other ranks, (rank, (2n, d)) by one: gathered at once, or passed round in a ring."""

    def __init__(
        self, z: Tensor, group: ProcessGroup | None, ring: bool, all_z: Tensor | None = None
    ) -> None:
        self._z, self._group, self._ring, self._all = z, group, ring, all_z
        self._coming = None
        if not ring and all_z is None and dist.world(group) > 1:
            self._coming = dist.start_gather_rows(z, group)

    @alike
    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        own, world = dist.rank(self._group), dist.world(self._group)
        if self._ring:
            for step, columns in enumerate(dist.pass_round(self._z, self._group), start=1):
                yield (own - step) % world, columns
            return
        if self._coming is not None:
            self._all, self._coming = self._coming.wait(), None
        for rank in range(world):
            if rank != own:
                assert self._all is not None
                yield rank, self._all[rank]

    def gathered(self) -> list[Tensor]:
        """Return the rows of all ranks, where they were gathered."""
        return [] if self._all is None else [self._all]


def _positives(rows: Tensor) -> Tensor:
    """Return the other view of each of this rank's rows: (2n, d) -> (2n, d)."""
    return rows.roll(len(rows) // 2, dims=0)
