"""Cluster-level contrastive loss over the global batch (paper, section 'Cluster-level Contrastive Head').

The columns of the global assignment matrices, ``C = [P_a | P_b]`` (N x 2K), are the clusters' representations.
With the cosine similarity ``S`` of the 2K columns over τ and the positive ``p(i)`` of column i, its like in the
other view::

    loss = mean_i ( logsumexp_{k≠i} S_ik − S_ip(i) )  +  Σ_{views} ( Σ_k q_k log q_k + log K ),   q = column mean

All of it follows from ``CᵀC`` (2K x 2K) and the 2K column sums: one all-reduce, whose size does not depend on N.
"""

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist

EPSILON = (
    1e-12  # a column that is shorter counts as this long, so that an empty cluster has a finite gradient
)


def cluster_loss(
    p_a: Tensor, p_b: Tensor, temperature: float = 1.0, group: ProcessGroup | None = None
) -> Tensor:
    """Return the cluster-level contrastive loss of the global batch, with its entropy term.

    Parameters
    ----------
    p_a, p_b
        This rank's soft assignments of the two views, (n, K), K at least 2, rows that sum to 1; n and K the
        same on all ranks.
    temperature
        The paper's cluster-level temperature.
    group
        The ranks whose batches make up the global batch; by default all.

    Returns
    -------
    Tensor
        The loss over the N = nW images, a scalar in float32 (float64 for float64 inputs), the same on all
        ranks. Its gradient to `p_a` and `p_b` is W times the derivative; see `ccscale.loss`.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, K) with K at least 2, or the temperature is not above 0.
    """
    if p_a.shape != p_b.shape or p_a.ndim != 2 or p_a.shape[1] < 2:
        raise ValueError(
            f"p_a and p_b must both be (n, K) with K >= 2, not {tuple(p_a.shape)} and {tuple(p_b.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    images, clusters = p_a.shape[0] * dist.world(group), p_a.shape[1]
    with torch.autocast(p_a.device.type, enabled=False):
        c = torch.cat([p_a, p_b], dim=1)  # (n, 2K)
        c = c if c.dtype == torch.float64 else c.float()
        summed = dist.global_sum(torch.cat([c.T @ c, c.sum(dim=0, keepdim=True)]), group)  # (2K + 1, 2K)
        gram, means = summed[:-1], summed[-1] / images
        return _contrast(gram, temperature) + _negative_entropy(means) + 2 * math.log(clusters)


def _contrast(gram: Tensor, temperature: float) -> Tensor:
    """Return the mean contrast of the 2K columns, from their inner products (2K, 2K)."""
    lengths = gram.diagonal().clamp_min(EPSILON**2).sqrt()
    similarity = gram / (lengths[:, None] * lengths) / temperature
    positive = similarity.diagonal(len(gram) // 2)  # column k of view a against column k of view b
    own = torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    lse = torch.logsumexp(similarity.masked_fill(own, -torch.inf), dim=1)
    return lse.mean() - positive.mean()


def _negative_entropy(means: Tensor) -> Tensor:
    """Return Σ q log q, with 0 log 0 = 0 and a finite gradient there."""
    return (means * means.clamp_min(torch.finfo(means.dtype).tiny).log()).sum()
