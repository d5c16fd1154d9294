"""The losses of a step that trains on labels, for a weak and a strong view of each image.

The cross-entropy with the labels trains the clusters that have labels, and takes images from those that have
none: alone, it empties these within a few steps, however right the labels are. The cluster loss, which kept
clusters in use before, is therefore added to it (`stages.boost.cluster_weight`; TCL: 0).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ccscale.config import Loss, LossName
from ccscale.config.stages import Boost
from ccscale.loss import instance_loss, label_loss
from ccscale.train.losses import Losses


def boost_losses(
    settings: Loss,
    boost: Boost,
    z: Tensor,
    p: Tensor,
    labels: Tensor,
    by: Sequence[LossName],
    cluster: Callable[[], Tensor] | None = None,
    cluster_weight: float = 1.0,
    half: bool = False,
) -> Losses:
    """Return losses of the global batch.

    Parameters
    ----------
    settings, boost
        The config's sections.
    z, p
        This rank's embeddings (2n, d) and soft assignments (2n, K), the weak view first.
    labels
        (N,): those of the global batch, -1 for none; the same on all ranks.
    by
        Which are computed.
    cluster
        Gives the cluster loss of all images, which was begun; None without it.
    cluster_weight
        What it weighs beside the cross-entropy.
    half
        As for `take_losses`.

    Returns
    -------
    Losses
        The instance loss, without pairs of one label; in place of the cluster loss the cross-entropy of the strong
        view, or beside it.
    """
    parts, instances, clusters = [], None, None
    if "instance" in by:
        weak, strong = z.chunk(2)
        instances = instance_loss(
            weak,
            strong,
            settings.instance_temperature,
            ring_bytes=settings.ring_bytes,
            check=False,
            labels=labels,
            half=half,
        )
        parts.append(settings.instance_weight * instances)
    if "cluster" in by:
        strong = p.chunk(2)[1]
        clusters = label_loss(strong, labels, boost.label_smoothing, boost.class_balance)
        if cluster is not None:
            clusters = clusters + cluster_weight * cluster()
        parts.append(settings.cluster_weight * clusters)
    return Losses(torch.stack(parts).sum(), instances, clusters)
