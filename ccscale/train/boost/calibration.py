"""A calibration head: the probability that an image is in a cluster, learned from the assignments of similar
images.

A cluster head that is trained on its own labels becomes more confident whether it is right or wrong. A second
head learns, on features h that it does not change, the mean assignments p of an image's mini-cluster S::

    q_i = mean of p_j, j in S_i          c_i = head(h_i)
    loss = mean_i (− Σ_k q_ik log c_ik) + Σ_k c̄_k log c̄_k          c̄ = mean_i c_i

so it is confident if similar images are confidently in the same cluster. The second term keeps all clusters in
use. It is trained by Adam with rate 1e-4, and starts as a copy of the cluster head (CDC's heads start from
k-means), with the running statistics of its norms.

Every rank trains the whole head on the global batch: only features and assignments are communicated, and the head
is the same on any number of ranks.

Source: Jia et al., "Towards calibrated deep clustering network", ICLR 2025.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ccscale import dist
from ccscale.config import Model
from ccscale.model.heads import make_cluster_heads
from ccscale.train.boost.means import means_by
from ccscale.train.boost.mini_clusters import mini_clusters

RATE = 1e-4


def calibration_loss(c: Tensor, q: Tensor) -> Tensor:
    """Return the loss of calibrated assignments (M, K), by their targets (M, K)."""
    tiny, mean = torch.finfo(c.dtype).tiny, c.mean(dim=0)
    return (mean * mean.clamp_min(tiny).log()).sum() - (q * c.clamp_min(tiny).log()).sum(dim=1).mean()


class Calibrator:
    """The calibration head of a run, and its optimizer; all ranks call its methods together.

    Parameters
    ----------
    cluster_head
        What it begins as.
    settings
        The config's section ``model``.
    width
        D, of the features.
    seed
        Of the run.
    """

    def __init__(self, cluster_head: nn.Module, settings: Model, width: int, seed: int) -> None:
        self._seed = seed
        with torch.device("meta"):  # nothing is drawn
            self._head = make_cluster_heads(width, settings).eval()
        weights = {name: weight.clone() for name, weight in cluster_head.state_dict().items()}
        self._head.load_state_dict(weights, assign=True)
        self._optimizer = torch.optim.Adam(self._head.parameters(), lr=RATE, fused=True)

    def take(self, features: Tensor, p: Tensor, step: int) -> Tensor:
        """Take a step; return the confidence of the global batch's images as it was before it.

        Parameters
        ----------
        features, p
            (n, D) and (n, K), of this rank's images: their features, and their soft assignments.
        step
            Of the run.

        Returns
        -------
        Tensor
            (N,): how probable it is that each is in the cluster that `p` is largest for.
        """
        n, width = features.shape
        told = dist.gather_rows(torch.cat([features.to(p.dtype), p], dim=1)).flatten(0, 1)
        features, p = told[:, :width], told[:, width:]
        groups, count = mini_clusters(features, self._seed, step)
        q = means_by(groups, p, count)[0][groups]
        with torch.enable_grad():
            c = self._head(features)
            loss = calibration_loss(c, q)
            loss.backward()
        # Fused Adam leaves all as it is where this is 1.
        self._optimizer.found_inf = (~loss.detach().isfinite()).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad()
        confidence = c.detach().gather(1, p.argmax(dim=1, keepdim=True))[:, 0]
        # Each rank's own, should devices of different kinds round differently.
        return dist.gather_rows(confidence[dist.rank() * n :][:n]).flatten()

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"head": self._head.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
