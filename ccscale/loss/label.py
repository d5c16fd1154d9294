"""Cross-entropy of soft assignments with the labels that images have, over the global batch (TCL: Li et al., "Twin
contrastive learning for online clustering", IJCV 2022, section 3.3).

With the labels l of the global batch, L images that have one, L_k of them with label k, smoothing ε::

    t_ik = (1 − ε) [k = l_i] + ε / K          w_k = L / L_k,  or 1 without class balance
    loss = Σ_i w_l(i) (− Σ_k t_ik log p_ik) / Σ_i w_l(i)     over the images with a label; 0 if there is none

All ranks know all labels, so denominator and weights are global without communication; one number is summed over
the ranks.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist
from ccscale.loss.over_ranks import mean_over_ranks


def label_loss(
    p: Tensor,
    labels: Tensor,
    smoothing: float = 0.0,
    class_balance: bool = True,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Return the cross-entropy of the labelled images of the global batch.

    Parameters
    ----------
    p : Tensor
        This rank's soft assignments (n, K), rows that sum to 1; n the same on all ranks.
    labels : Tensor
        (N,) integers, the same on all ranks: the label of each image of the global batch, rank by rank; below 0
        for an image that has none.
    smoothing : float, default 0
        ε, how much of a label is shared among all clusters.
    class_balance : bool, default True
        Let each label weigh the same, however many images have it.
    group : ProcessGroup, optional
        The ranks whose batches make up the global batch; by default all.

    Returns
    -------
    Tensor
        The loss, a scalar in float32 (float64 for float64 inputs), the same on all ranks. Its gradient to `p` is W
        times the derivative; see `ccscale.loss`.
    """
    world, first = dist.world(group), dist.rank(group) * len(p)
    with torch.autocast(p.device.type, enabled=False):
        p = p if p.dtype == torch.float64 else p.float()
        weights = label_weights(labels, p.shape[1], class_balance).to(p.dtype)  # (N,)
        own, log_p = labels[first : first + len(p)], p.clamp_min(torch.finfo(p.dtype).tiny).log()
        of_label = log_p.gather(1, own.clamp_min(0)[:, None].long())[:, 0]
        each = -(1 - smoothing) * of_label - smoothing * log_p.mean(dim=1)
        total = (weights[first : first + len(p)] * each).sum() / weights.sum().clamp_min(1)
        return mean_over_ranks(world * total, group)


def label_weights(labels: Tensor, k: int, class_balance: bool) -> Tensor:
    """Return what each image weighs, (N,) float64: 0 without a label, at least 1 with one."""
    has = (labels >= 0).double()
    if not class_balance:
        return has
    places = labels.clamp_min(0).long()
    counts = has.new_zeros(k).index_add_(0, places, has)
    return has * has.sum() / counts[places].clamp_min(1)
