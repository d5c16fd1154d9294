"""Living clusters of a run in the service, assigned as by ``ccscale update``: the current version."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.clusters.assigning import assign_images
from ccscale.clusters.lineage import Lineage
from ccscale.embed.backbone import Backbone, backbone_of_run
from ccscale.embed.features import NOT_FINITE, Embedder
from ccscale.evaluate.reliability import assign_features
from ccscale.model.export import load
from ccscale.model.network import ContrastiveClustering
from ccscale.serve.answer import Answer, batch_of, refuse_channels


class LivingClusters:
    """The clusters of a version; see `answer.Answerer`.

    An image is examined by itself: what ``ccscale update`` knows of the day beside it, it does not.
    """

    def __init__(self, lineage: Lineage, device: torch.device) -> None:
        settings = lineage.current.backbone
        self.version = f"v{lineage.number:06d}"
        self._state, self._names = lineage.state(), lineage.names()
        self.clusters = len(self._state.ids)
        self.size, self.scaled_decode = settings.size, settings.scaled_decode
        backbone, self._heads = _network(lineage.network(), settings.size, device)
        refuse_channels(backbone.settings)
        self._embedder = Embedder(backbone, settings.dtype, None, settings.scaled_decode, 0, 0)

    def answer(self, images: NDArray[np.uint8]) -> list[Answer]:
        """Return the answers to images (n, size, size, 3), RGB."""
        (embedded,) = self._embedder.embed_batches([batch_of(images)])
        rows = embedded.features[0].astype(np.float32)
        found = assign_images(self._state, rows, *assign_features(self._heads, rows))
        ids = np.where(embedded.bad, -1, found.ids).tolist()
        reasons = [NOT_FINITE if bad else why for bad, why in zip(embedded.bad, found.reasons, strict=True)]
        return [
            Answer(id, self._names.get(id), confidence, None, reason, self.version)
            for id, confidence, reason in zip(ids, found.confidence.tolist(), reasons, strict=True)
        ]


@lru_cache(maxsize=1)  # it is never changed, and most versions have the network of the one before
def _network(folder: Path, size: int, device: torch.device) -> tuple[Backbone, ContrastiveClustering]:
    """Return the backbone, as images are embedded by it, and the heads."""
    heads = load(folder, device, heads_alone=True)
    if hasattr(heads, "backbone"):
        del heads.backbone
    return backbone_of_run(folder, "last", size, device), heads
