"""The two heads of Contrastive Clustering (paper, section 'Method'): two-layer perceptrons without batch norm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Head(nn.Module):
    """Linear - ReLU - Linear, given on in float32 (float64 stays) whatever autocast computed in."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs)
        )

    def _project(self, h: Tensor) -> Tensor:
        out = self.layers(h)
        return out if out.dtype == torch.float64 else out.float()


class InstanceHead(_Head):
    """Features (m, D) -> embeddings (m, d) of unit length."""

    def forward(self, h: Tensor) -> Tensor:
        """Return the embeddings."""
        return F.normalize(self._project(h), dim=1)


class ClusterHead(_Head):
    """Features (m, D) -> soft assignments (m, K), rows that sum to 1."""

    def forward(self, h: Tensor) -> Tensor:
        """Return the soft assignments."""
        return torch.softmax(self._project(h), dim=1)
