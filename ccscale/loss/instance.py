"""Instance-level contrastive loss over the global batch (paper, section 'Instance-level Contrastive Head').

With the 2N rows ``Z = [z_a; z_b]`` of all ranks, ``S = Z Zᵀ / τ`` and the positive ``p(i)`` of row i::

    l_i = logsumexp_{k≠i} S_ik − S_ip(i)          loss = mean_i l_i

    ∂loss/∂z_i = [ Σ_{k≠i} (e^{S_ik − lse_i} + e^{S_ik − lse_k}) z_k − 2 z_p(i) ] / (2N τ)

The second line needs the logsumexps of all rows and nothing else from the other ranks, so no gradient is
reduce-scattered. Each rank computes its own 2n rows of S without storing them: tile by tile (`tiles.py`), or fused
(`fused.py`).

Communication: the rows of z, gathered once in their own type while the rank's own block of S is computed; then 2N
logsumexps and one number per rank. The backward pass communicates nothing. In a ring no rank holds all of z: rows
are passed from rank to rank, overlapped with computation, once forward and once backward.

If images have labels, those with the same label do not repel each other: they are left out of each other's sums
over k, and nothing pulls them together (TCL: Li et al., "Twin contrastive learning for online clustering", 2022,
section 3.3). An image without a label repels all others. For the tiles each label is a group, and so is each image
without one: rows of a group are not compared, and the term of the positive pair is added separately.
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
    labels: Tensor | None = None,
    half: bool = False,
) -> Tensor:
    """Return the instance-level contrastive loss of the global batch.

    Parameters
    ----------
    z_a, z_b : Tensor
        This rank's embeddings of the two views, (n, d), of unit length; n, d and the type the same on all ranks.
    temperature : float, default 0.5
        Temperature τ.
    group : ProcessGroup, optional
        The ranks whose batches make up the global batch; default all.
    ring_bytes : int, default 2**30
        If the rows of all ranks exceed this many bytes, they are passed around in a ring instead of being gathered:
        more messages, but memory for the rows of three ranks instead of all.
    check : bool, default True
        First compare the shapes on all ranks, with a small collective call: ranks with different shapes would
        deadlock. Set it to false to save the call if shapes cannot differ.
    labels : Tensor, optional
        (N,) integers, the same on all ranks: the label of each image of the global batch, in rank order; negative
        for images without one. Pairs of different images with the same label are left out of the denominators.
    half : bool, default False
        Whether products on an NVIDIA GPU may use float16 operands even for float32 embeddings: a third of the
        products, with a relative gradient error of 1e-4. False: as accurate as float32.

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
    groups = None if labels is None else _groups(labels, dist.world(group))
    return _InstanceLoss.apply(z, temperature, group, ring, groups, half)


class _InstanceLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        temperature: float,
        group: ProcessGroup | None,
        ring: bool,
        groups: Tensor | None,
        half: bool,
    ) -> Tensor:
        own = dist.rank(group)
        with torch.autocast(z.device.type, enabled=False):
            others = _Others(z, group, ring)
            own_groups = _of(groups, slice(own, own + 1))
            sums = row_sums(z, temperature, own_groups, keep=ctx.needs_input_grad[0], half=half)
            sums.add_own()  # meanwhile the others' rows are on their way
            for ranks, columns in others.blocks(sums.at_once):
                sums.add(columns, _of(groups, ranks))
            lse, ctx.kept = sums.log(), sums.kept
            del sums
            rows = computed_in(z)
            positive = (rows * _positives(rows)).sum(dim=1) / temperature
            if groups is not None:
                lse = torch.logaddexp(lse, positive)
            total = (lse - positive).sum()
            told = dist.gather_rows(torch.cat([lse, total[None]]), group)  # (W, 2n + 1)
        ctx.save_for_backward(z, told[:, :-1], *others.gathered())
        ctx.temperature, ctx.group, ctx.ring, ctx.groups, ctx.half = temperature, group, ring, groups, half
        return told[:, -1].sum() / told[:, :-1].numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        z, all_lse, *gathered = ctx.saved_tensors  # (2n, d), (W, 2n)
        own, groups = dist.rank(ctx.group), ctx.groups
        with torch.autocast(z.device.type, enabled=False):
            others = _Others(z, ctx.group, ctx.ring, *gathered)
            own_groups = _of(groups, slice(own, own + 1))
            pulls = row_pulls(z, all_lse[own], ctx.temperature, own_groups, ctx.kept, ctx.half)
            ctx.kept = None
            pulls.add_own()
            for ranks, columns in others.blocks(pulls.at_once):
                pulls.add(columns, all_lse[ranks].flatten(), _of(groups, ranks))
            gradient, positives = pulls.total(), _positives(z)
            if groups is not None:
                positive = (computed_in(z) * positives).sum(dim=1) / ctx.temperature
                lse = all_lse[own]
                weights = (positive - lse).exp() + (positive - _positives(lse)).exp()
                gradient.addcmul_(computed_in(positives), weights[:, None])
            gradient.sub_(positives, alpha=2)
            # The ranks' average is to be the derivative: W times that is handed on.
            scale = dist.world(ctx.group) / (all_lse.numel() * ctx.temperature)
            gradient *= gradients[0] * scale
        return gradient.to(z.dtype), None, None, None, None, None


def _groups(labels: Tensor, world: int) -> Tensor:
    """Return the group of each rank's rows, (W, 2n): an image's label, or a number below 0 for it alone."""
    alone = -1 - torch.arange(len(labels), device=labels.device)
    return torch.where(labels < 0, alone, labels).view(world, -1).repeat(1, 2)


def _of(groups: Tensor | None, ranks: slice) -> Tensor | None:
    return None if groups is None else groups[ranks].flatten()


class _Others:
    """The rows of the other ranks: gathered at once, or passed round in a ring."""

    def __init__(
        self, z: Tensor, group: ProcessGroup | None, ring: bool, all_z: Tensor | None = None
    ) -> None:
        self._z, self._group, self._ring, self._all = z, group, ring, all_z
        self._coming = None
        if not ring and all_z is None and dist.world(group) > 1:
            self._coming = dist.start_gather_rows(z, group)

    @alike
    def blocks(self, at_once: bool) -> Iterator[tuple[slice, Tensor]]:
        """Yield (ranks, their rows), rank by rank; `at_once`: all that lie together."""
        own, world = dist.rank(self._group), dist.world(self._group)
        if self._ring:
            for step, columns in enumerate(dist.pass_round(self._z, self._group), start=1):
                rank = (own - step) % world
                yield slice(rank, rank + 1), columns
            return
        if self._coming is not None:
            self._all, self._coming = self._coming.wait(), None
        each = [slice(rank, rank + 1) for rank in range(world) if rank != own]
        for ranks in [slice(own), slice(own + 1, world)] if at_once else each:
            if self._all is not None and ranks.stop > (ranks.start or 0):
                yield ranks, self._all[ranks].flatten(0, 1)

    def gathered(self) -> list[Tensor]:
        """Return the rows of all ranks, where they were gathered."""
        return [] if self._all is None else [self._all]


def _positives(rows: Tensor) -> Tensor:
    """Return the other view of each of this rank's rows: (2n, d) -> (2n, d)."""
    return rows.roll(len(rows) // 2, dims=0)
