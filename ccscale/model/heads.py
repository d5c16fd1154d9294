"""The heads: perceptrons on the backbone's features (paper, section 'Method': two layers, without batch norm).

A cluster head ends in a linear layer of K outputs, or, with prototypes w_k (TEMI: Adaloglou et al., 2023; as
DINO's head), in cosines::

    u = the perceptron's output, of length 1        logit_k = <u, w_k / |w_k|>        p = softmax(logits / τ)
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccscale.config import CentresOf, Model
from ccscale.model.norm import GlobalBatchNorm1d

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": lambda: nn.ReLU(inplace=True), "gelu": nn.GELU}
_NORMS: dict[str, type[nn.Module]] = {"batch": GlobalBatchNorm1d, "layer": nn.LayerNorm}

CENTRE_TEMPERATURE = 0.1  # cosines of one kind of image differ by tenths


class _Head(nn.Module):
    """Linear - (norm) - activation, so often as is requested, and Linear; given on in float32 (float64 stays)."""

    def __init__(self, features: int, outputs: int, settings: Model) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = settings.head_width or features
        for number in range(settings.head_depth - 1):
            layers.append(nn.Linear(width if number else features, width))
            if settings.head_norm != "none":
                layers.append(_NORMS[settings.head_norm](width))
            layers.append(_ACTIVATIONS[settings.head_activation]())
        layers.append(nn.Linear(width, outputs))
        self.layers = nn.Sequential(*layers)

    def _project(self, h: Tensor) -> Tensor:
        out = self.layers(h)
        return out if out.dtype == torch.float64 else out.float()


class Centred(nn.Module):
    """Features (m, D) without their mean, brought to length 1.

    Attributes
    ----------
    mean : Tensor
        (D,): of the features of a store; zeros until it is found.
    """

    mean: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, h: Tensor) -> Tensor:
        """Return them in the type of the mean."""
        with torch.autocast(h.device.type, enabled=False):
            return F.normalize(h.to(self.mean.dtype) - self.mean, dim=1)


class InstanceHead(_Head):
    """Features (m, D) -> embeddings (m, d) of unit length."""

    def __init__(self, features: int, settings: Model) -> None:
        super().__init__(features, settings.embedding, settings)

    def forward(self, h: Tensor) -> Tensor:
        """Return the embeddings."""
        return F.normalize(self._project(h), dim=1)


class ClusterHead(_Head):
    """Features (m, D) -> soft assignments (m, K), rows that sum to 1."""

    def __init__(self, features: int, clusters: int, settings: Model) -> None:
        super().__init__(features, settings.prototypes or clusters, settings)
        self.centred = Centred(features) if settings.head_input == "centred" else None
        self._temperature = settings.head_temperature
        self.prototypes = (
            nn.Linear(settings.prototypes, clusters, bias=False) if settings.prototypes else None
        )

    def forward(self, h: Tensor) -> Tensor:
        """Return the soft assignments."""
        out = self._project(h if self.centred is None else self.centred(h))
        with torch.autocast(out.device.type, enabled=False):
            if self.prototypes is not None:
                out = F.normalize(out, dim=1) @ F.normalize(self.prototypes.weight, dim=1).T
            return torch.softmax(out / self._temperature, dim=1)


class CentreHead(nn.Module):
    """Vectors (m, d) -> soft assignments (m, K): the softmax of their cosines with centres, which k-means finds.

    With several parts there are so many times K centres, and a cluster is as near as the nearest of its own.

    Attributes
    ----------
    of : {"embeddings", "whitened", "features"}
        What the vectors are; whitened: embeddings, which are whitened here.
    centres : Tensor
        (K parts, d), of length 1; zeros until they are found, which assign nothing.
    joined : Tensor
        (K parts,) int64: the cluster of each centre, where there are several parts.
    middle, axes : Tensor
        (d,) and (d, q), of whitened embeddings alone, q = K - 1 or d if that is less: centres have q
        entries.
    """

    centres: Tensor
    joined: Tensor
    middle: Tensor
    axes: Tensor

    def __init__(self, of: CentresOf, width: int, clusters: int, parts: int = 1) -> None:
        super().__init__()
        self.of, self.clusters, self.parts = of, clusters, parts
        if of == "whitened":
            self.register_buffer("middle", torch.zeros(width))
            self.register_buffer("axes", torch.zeros(width, min(width, clusters - 1)))
            width = self.axes.shape[1]
        self.register_buffer("centres", torch.zeros(clusters * parts, width))
        if parts > 1:
            self.register_buffer("joined", torch.arange(clusters * parts) % clusters)

    @property
    def is_found(self) -> bool:
        """Whether its centres have been found."""
        return bool(self.centres.any())

    def prepare(self, vectors: Tensor) -> Tensor:
        """Return vectors as they are compared with the centres, but for their length."""
        vectors = vectors.to(self.centres.dtype)
        return (vectors - self.middle) @ self.axes if self.of == "whitened" else vectors

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the soft assignments."""
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = F.normalize(self.prepare(vectors), dim=1) @ self.centres.T
            if self.parts > 1:
                nearest = cosines.new_full((len(cosines), self.clusters), -1.0)
                cosines = nearest.scatter_reduce(1, self.joined.expand_as(cosines), cosines, "amax")
            return torch.softmax(cosines / CENTRE_TEMPERATURE, dim=1)


class CentreHeads(nn.ModuleList):
    """Cluster heads whose clusters are found: (features (m, D), embeddings (m, d)) -> the assignments of each."""

    def __iter__(self) -> Iterator[CentreHead]:
        """Yield the heads."""
        return cast(Iterator[CentreHead], super().__iter__())

    def forward(self, features: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        """Return the soft assignments of all of them, (m, K) each."""
        return tuple(head(features if head.of == "features" else embeddings) for head in self)


class ClusterHeads(nn.ModuleList):
    """Several cluster heads: features (m, D) -> the soft assignments of each, (m, K)."""

    def __iter__(self) -> Iterator[ClusterHead]:
        """Yield the heads."""
        return cast(Iterator[ClusterHead], super().__iter__())

    def forward(self, h: Tensor) -> tuple[Tensor, ...]:
        """Return the soft assignments of all heads."""
        return tuple(head(h) for head in self)


def make_cluster_heads(features: int, settings: Model) -> ClusterHead | ClusterHeads:
    """Return a network's cluster heads; one alone has the names that it had before there were several."""
    heads = [ClusterHead(features, k, settings) for k in settings.trained_clusters]
    return heads[0] if len(heads) == 1 else ClusterHeads(heads)


def make_centre_heads(features: int, settings: Model) -> CentreHeads:
    """Return a network's cluster heads that are found, none of them yet: those of `settings.centres`, of each K."""
    widths = {"features": features, "embeddings": settings.embedding, "whitened": settings.embedding}
    return CentreHeads(
        CentreHead(of, widths[of], k, settings.centre_parts)
        for of in settings.centres
        for k in settings.cluster_counts
    )
