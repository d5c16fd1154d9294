"""The teacher of the cluster heads: their moving average, and how often it takes each cluster (see `loss/temi.py`).

All of it is buffers: a checkpoint has it, under ``teacher.``, and an exported network does not. The same goes for
``shares``, by which a prior is estimated (see `loss/prior.py`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ccscale.model.average import Average

PREFIX, SHARES = "teacher.", "shares"


class Teacher(nn.Module):
    """Features (m, D) -> the averaged heads' soft assignments of each, (m, K), without gradient.

    Attributes
    ----------
    heads
        The average.
    prior
        (ΣK,): the mean assignments by each head, one behind the other; even ones at first.
    """

    prior: Tensor

    def __init__(self, cluster_head: nn.Module, clusters: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = Average(cluster_head)
        self.register_buffer("prior", even_shares(clusters))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the assignments."""
        found = self.heads(features)
        return found if isinstance(found, tuple) else (found,)


def even_shares(clusters: tuple[int, ...]) -> Tensor:
    """Return (ΣK,): for heads of this many clusters the same share of each, one head behind the other."""
    return torch.cat([torch.full((k,), 1 / k) for k in clusters])


def without_training(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's state dict as it serves, when nothing trains it any more."""
    return {name: value for name, value in weights.items() if not name.startswith(PREFIX) and name != SHARES}
