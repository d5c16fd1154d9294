"""TCL's self-labelling ("boosting") in one process, as plainly as it is told: loops over images, whole matrices.

Li et al., "Twin contrastive learning for online clustering", IJCV 2022, section 3.3. Each step looks at the images
as they are, in evaluation mode; of each cluster the most confident ones get its label; who is not sure has none.
The first epoch only labels. Then the instance loss of a weak and a strong view leaves out pairs of one label, and
the cross-entropy of the strong view with the labels stands in place of the cluster loss; or beside it, which is not
the paper's (stages.boost.cluster_weight).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from plain_network import Network
from torch import Tensor

from ccscale.config import Config

Labels = dict[int, int]  # of each image that has one


def relabel(labels: Labels, numbers: Sequence[int], p: Tensor, share: float, threshold: float) -> list[int]:
    """Give and take the labels of a batch, by its soft assignments (M, K); return them, -1 for none."""
    count, clusters = p.shape
    confidence, cluster = p.max(dim=1).values.tolist(), p.argmax(dim=1).tolist()
    for k in range(clusters):
        inside = [i for i in range(count) if cluster[i] == k]
        inside.sort(key=lambda i: -confidence[i])
        for i in inside[: math.ceil(share * count / clusters)]:
            labels.setdefault(numbers[i], k)
    for i in range(count):
        if confidence[i] < threshold:
            labels.pop(numbers[i], None)
    return [labels.get(number, -1) for number in numbers]


def labelled_instance_loss(z_a: Tensor, z_b: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the instance loss of (N, d) embeddings; pairs of different images with one label are left out."""
    z, label, image = torch.cat([z_a, z_b]), labels.repeat(2), torch.arange(len(z_a)).to(labels).repeat(2)
    alike = (label[:, None] == label) & (label >= 0) & (image[:, None] != image)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(alike | itself, -torch.inf)
    positives = (z * torch.cat([z_b, z_a])).sum(dim=1) / temperature
    return (similarity.logsumexp(dim=1) - positives).mean()


def label_loss(p: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of (N, K) soft assignments with the labels, each label as weighty as another."""
    has = labels >= 0
    if not has.any():
        return p.sum() * 0
    counts = torch.bincount(labels[has], minlength=p.shape[1])
    weights = torch.where(counts > 0, has.sum() / counts.clamp_min(1), 1).to(p)
    return F.nll_loss(p[has].log(), labels[has], weights)


class Boosting:
    """The labels of all images, and the steps that train by them.

    Parameters
    ----------
    config
        The run's.
    network, optimizer
        As training has left them.
    cluster_loss
        Of the assignments of two views, and a temperature.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        optimizer: torch.optim.Optimizer,
        cluster_loss: Callable[[Tensor, Tensor, float], Tensor],
    ) -> None:
        self.config, self.network, self.optimizer = config, network, optimizer
        self.cluster_loss = cluster_loss
        self.labels: Labels = {}
        for group in optimizer.param_groups:
            group["lr"] = config.boost_lr

    def step(self, numbers: Sequence[int], views: Sequence[Tensor], trains: bool) -> list[int]:
        """Take a step with the weak views, the strong ones and the images as they are; return their labels."""
        weak, strong, whole = views
        network, boost, loss = self.network, self.config.stages.boost, self.config.loss
        network.eval()
        with torch.no_grad():
            p = network.soft(network.backbone(whole))
        found = relabel(self.labels, numbers, p, boost.share, boost.threshold)
        network.train()
        if trains:
            labels = torch.tensor(found, device=p.device)
            self.optimizer.zero_grad()
            z_a, z_b, p_a, p_b = network(weak, strong)
            instances = labelled_instance_loss(z_a, z_b, labels, loss.instance_temperature)
            clusters = label_loss(p_b, labels)
            if weight := self.config.boost_cluster_weight:
                clusters = clusters + weight * self.cluster_loss(p_a, p_b, loss.cluster_temperature)
            total = loss.instance_weight * instances + loss.cluster_weight * clusters
            total.backward()
            self.optimizer.step()
        return found
