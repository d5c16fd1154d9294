"""The answer for an image, and the interface of what gives it."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.config import Model
from ccscale.data.whole_images import WholeBatch
from ccscale.errors import InputError


@dataclass(frozen=True, slots=True)
class Answer:
    """The cluster of an image.

    Attributes
    ----------
    id
        The cluster; -1 for an image that is left without one.
    name
        Of the cluster, where it has one.
    confidence
        The soft assignment to the cluster.
    calibrated
        How often images of such a confidence are right, where that was measured.
    reason
        Why the image is left without a cluster.
    version
        Of the clusters.
    """

    id: int
    name: str | None
    confidence: float
    calibrated: float | None
    reason: str | None
    version: str

    def as_json(self) -> dict[str, Any]:
        """Return the answer as JSON-compatible values."""
        return asdict(self)


class Answerer(Protocol):
    """The clusters of one version; immutable."""

    version: str
    clusters: int
    """How many there are."""
    size: int
    """Side of the images that it takes, in pixels."""
    scaled_decode: bool
    """See `config.Views`."""

    def answer(self, images: NDArray[np.uint8]) -> list[Answer]:
        """Return the answers to images (n, size, size, 3), RGB."""


def refuse_channels(model: Model) -> None:
    """Raise an `InputError` for a network whose images are no photographs."""
    if model.of_channels:
        raise InputError(
            f"the network takes images with {model.in_chans} channels, but `ccscale serve` accepts 8-bit "
            "RGB photographs only: use `ccscale predict`, or `ccscale export --format onnx`"
        )


def batch_of(images: NDArray[np.uint8]) -> WholeBatch:
    """Return images (n, size, size, 3) as evaluation has them."""
    n = len(images)
    unknown, bad = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
    return WholeBatch(torch.from_numpy(images), unknown, ("",) * n, unknown, bad, ())
