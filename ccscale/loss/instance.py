"""Instance-level contrastive loss over the global batch (paper, section 'Instance-level Contrastive Head').

With the 2N rows ``Z = [z_a; z_b]`` of all ranks, ``S = Z Zᵀ / τ`` and the positive ``p(i)`` of row i::

    l_i = logsumexp_{k≠i} S_ik − S_ip(i)          loss = mean_i l_i

    ∂loss/∂z_i = [ Σ_{k≠i} (e^{S_ik − lse_i} + e^{S_ik − lse_k}) z_k − 2 z_p(i) ] / (2N τ)

The second line needs the logsumexps of all rows and nothing else from the other ranks: features are gathered
once, no gradient is scattered back. Each rank computes its own 2n rows of S, some rows at a time, and never
keeps them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist

TILE = 2**23  # elements of S that are held at a time


def instance_loss(
    z_a: Tensor, z_b: Tensor, temperature: float = 0.5, group: ProcessGroup | None = None
) -> Tensor:
    """Return the instance-level contrastive loss of the global batch.

    Parameters
    ----------
    z_a, z_b
        This rank's embeddings of the two views, (n, d), of unit length; n and d the same on all ranks.
    temperature
        The paper's instance-level temperature.
    group
        The ranks whose batches make up the global batch; by default all.

    Returns
    -------
    Tensor
        The loss over the N = nW images, a scalar in float32 (float64 for float64 inputs), the same on all
        ranks. Its gradient to `z_a` and `z_b` is W times the derivative; see `ccscale.loss`.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, d), or the temperature is not above 0.
    """
    if z_a.shape != z_b.shape or z_a.ndim != 2:
        raise ValueError(f"z_a and z_b must both be (n, d), not {tuple(z_a.shape)} and {tuple(z_b.shape)}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    z = torch.cat([z_a, z_b])
    return _InstanceLoss.apply(z if z.dtype == torch.float64 else z.float(), temperature, group)


class _InstanceLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, group: ProcessGroup | None) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            all_z = dist.gather_rows(z, group).flatten(0, 1)  # (2N, d)
            first = dist.rank(group) * len(z)
            lse = z.new_empty(len(z))
            for rows, similarity in _similarity(z, all_z, first, temperature):
                lse[rows] = torch.logsumexp(similarity, dim=1)
            positive = (z * _positives(z)).sum(dim=1) / temperature
            total = dist.sum_((lse - positive).sum(), group)
        ctx.save_for_backward(z, all_z, lse)
        ctx.temperature, ctx.group = temperature, group
        return total / len(all_z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        z, all_z, lse = ctx.saved_tensors
        with torch.autocast(z.device.type, enabled=False):
            all_lse = dist.gather_rows(lse, ctx.group).flatten()  # (2N,)
            first = dist.rank(ctx.group) * len(z)
            gradient = _positives(z).mul(-2)
            for rows, similarity in _similarity(z, all_z, first, ctx.temperature):
                weights = torch.exp(similarity - lse[rows, None])
                weights += torch.exp(similarity - all_lse)
                gradient[rows].addmm_(weights, all_z)
            scale = dist.world(ctx.group) / (len(all_z) * ctx.temperature)
        return gradient * (scale * gradients[0]), None, None


def _positives(z: Tensor) -> Tensor:
    """Return the other view of each of this rank's rows: (2n, d) -> (2n, d)."""
    return z.roll(len(z) // 2, dims=0)


def _similarity(z: Tensor, all_z: Tensor, first: int, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, S of these rows against all) with −inf where a row meets itself."""
    step = max(1, TILE // len(all_z))
    for start in range(0, len(z), step):
        rows = slice(start, min(start + step, len(z)))
        similarity = (z[rows] / temperature) @ all_z.T
        similarity.diagonal(first + start).fill_(-torch.inf)
        yield rows, similarity
