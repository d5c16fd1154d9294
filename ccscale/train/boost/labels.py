"""The lasting labels of self-labelling, and the last cluster of each image: the same on every rank, saved in
checkpoints.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccscale.config.stages import Boost
from ccscale.train.boost.given import GivenClasses
from ccscale.train.boost.selection import most_confident, relabel

_NAMES = ("labels", "clusters", "before")


class LastingLabels:
    """The label of each image, and its clusters.

    Attributes
    ----------
    labels, clusters, before
        (images,) int32 each: the lasting label, -1 for none; the cluster that the image was in when it was last
        looked at, and before `compare_from_here`; -1 for one that was not looked at.
    given
        (images,) int32: the label that a user gives, which stays whatever is found; -1 for none.
    """

    def __init__(self, images: int, k: int, settings: Boost, device: torch.device) -> None:
        self._k, self._settings = k, settings
        self.labels, self.clusters, self.before = (
            torch.full((images,), -1, dtype=torch.int32, device=device) for _ in _NAMES
        )
        self.given = torch.full_like(self.labels, -1)

    def hold(self, images: int) -> None:
        """Make room for new images, without labels."""
        for name in (*_NAMES, "given"):
            kept = getattr(self, name)
            if (more := images - len(kept)) > 0:
                setattr(self, name, torch.cat([kept, kept.new_full((more,), -1)]))

    def take(self, samples: Tensor, confidence: Tensor, clusters: Tensor, lasting: bool = True) -> Tensor:
        """Look at a global batch; return its labels, (N,) int32.

        Parameters
        ----------
        samples
            (N,) int64: which samples they are. One that stands in for another may be there twice.
        confidence, clusters
            As for `relabel`, or of `most_confident`.
        lasting
            Whether a label stays that an image had before; none does by a calibrated confidence.
        """
        settings = self._settings
        if settings.selection == "calibrated":
            found = most_confident(confidence, clusters, self._k, settings.share)
            new = torch.where(found, clusters, -1).to(torch.int32)
        else:
            old = self.labels[samples] if lasting else torch.full_like(samples, -1, dtype=torch.int32)
            new = relabel(old, confidence, clusters, self._k, settings.share, settings.threshold)
        given = self.given[samples]
        new = torch.where(given >= 0, given, new)
        _put(self.labels, samples, new)
        _put(self.clusters, samples, clusters.to(torch.int32))
        return self.labels[samples]

    def compare_from_here(self) -> None:
        """Store the current clusters as those to compare with."""
        self.before.copy_(self.clusters)

    def give(self, given: GivenClasses) -> None:
        """Let labels last that a user gives, by the clusters that the images are in before they train anything."""
        given = given.among(len(self.labels))
        if not len(given.samples):
            return
        labels = torch.from_numpy(given.clusters(self.before.cpu().numpy().astype(np.int64), self._k))
        self.given[torch.from_numpy(given.samples).to(self.given.device)] = labels.to(self.given)

    def state(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {name: getattr(self, name) for name in _NAMES}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        for name in _NAMES:
            getattr(self, name).copy_(state[name])
        if "given" in state:
            self.given.copy_(state["given"])


def _put(kept: Tensor, samples: Tensor, values: Tensor) -> None:
    """Set values by sample; of one that is there twice the larger one, in whatever order a device takes them."""
    kept.scatter_reduce_(0, samples, values, "amax", include_self=False)
