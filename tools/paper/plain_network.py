"""The network of the published formulation (formulation.py)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccscale.config import Config
from ccscale.model.backbone import build_backbone
from ccscale.model.trial import try_backbone


class Network(nn.Module):
    """Backbone and both heads; the weights are made in ccscale's order, so that a seed gives the same ones."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.model, config.views.size)
        model = config.model
        width = try_backbone(model, config.views.size).width
        self.instance = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, model.embedding))
        self.cluster = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, model.cluster_counts[0])
        )

    def forward(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return z_a, z_b (N, d) and p_a, p_b (N, K) of two views: a pass for each."""
        h_a, h_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = F.normalize(self.instance(h_a), dim=1), F.normalize(self.instance(h_b), dim=1)
        return z_a, z_b, self.soft(h_a), self.soft(h_b)

    def soft(self, h: Tensor) -> Tensor:
        """Return the soft assignments (N, K) of features."""
        return torch.softmax(self.cluster(h), dim=1)
