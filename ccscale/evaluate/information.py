"""The information of a soft clustering about images, in nats, without labels.

    information = H(mean p) − mean H(p),    H(p) = −Σ_k p_k log p_k

over the soft assignments p of all images: the mutual information of image and cluster (Bridle, Heading and MacKay
1991; Krause, Perona and Gomes 2010). It is log K if all clusters are used equally and every assignment is
certain, and 0 if all images are assigned alike: to a single cluster, or without any preference.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class SoftCounts:
    """The K + 1 sums that the information of soft assignments follows from; they add up over batches and ranks.

    Attributes
    ----------
    images
        N, how many were summed.
    mass
        (K,) float64: Σ_i p_i.
    entropy
        Σ_i H(p_i), in nats.
    """

    images: int
    mass: NDArray[np.float64]
    entropy: float

    @classmethod
    def of(cls, assignments: Tensor) -> "SoftCounts":
        """Sum up (n, K) soft assignments, in float64."""
        p = assignments.double()
        return cls(len(p), p.sum(dim=0).cpu().numpy(), float(torch.special.entr(p).sum()))

    @classmethod
    def join(cls, parts: Iterable["SoftCounts"]) -> "SoftCounts":
        """Add parts up, in their order; there is at least one."""
        first, *others = parts
        images, mass, entropy = first.images, first.mass.copy(), first.entropy
        for part in others:
            images += part.images
            mass += part.mass
            entropy += part.entropy
        return cls(images, mass, entropy)

    @property
    def information(self) -> float:
        """Return the mutual information of image and cluster, 0 to log K; 0 without images."""
        if not self.images:
            return 0.0
        total = self.mass.sum()  # N, but for the rounding of each softmax
        used = self.mass[self.mass > 0] / total
        return max(0.0, float(-(used * np.log(used)).sum() - self.entropy / self.images))
