"""The losses of a step that trains by labels: of a weak and a strong view of each image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ccscale.config import Loss, LossName
from ccscale.config.stages import Boost
from ccscale.loss import instance_loss, label_loss
from ccscale.train.losses import Losses


def boost_losses(
    settings: Loss, boost: Boost, z: Tensor, p: Tensor, labels: Tensor, by: Sequence[LossName]
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

    Returns
    -------
    Losses
        The instance loss, without pairs of one label; in place of the cluster loss the cross-entropy of the strong
        view.
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
        )
        parts.append(settings.instance_weight * instances)
    if "cluster" in by:
        strong = p.chunk(2)[1]
        clusters = label_loss(strong, labels, boost.label_smoothing, boost.class_balance)
        parts.append(settings.cluster_weight * clusters)
    return Losses(torch.stack(parts).sum(), instances, clusters)
