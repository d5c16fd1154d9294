"""Images -> features, batch by batch; no rank waits for another.

A batch goes through the backbone with all its views at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import dist
from ccscale.data.images.channels import Channels
from ccscale.data.images.colour import to_float
from ccscale.data.images.device_colour import colour_views
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.pixels import follow_pixels
from ccscale.data.whole_images import RandomViews, WholeBatch, whole_batches
from ccscale.embed.backbone import Backbone
from ccscale.features.feature_file import encode
from ccscale.features.listing import Dtype
from ccscale.preempt import StopRequest
from ccscale.progress import Meter

NOT_FINITE = "its features are not finite"


@dataclass(frozen=True)
class Embedded:
    """The features of a batch of n images.

    Attributes
    ----------
    keys, labels
        Of the samples.
    bad
        (n,) bool: the features are zeros, since the image cannot be decoded or gives none that are finite.
    reasons
        A line for each of these, with its key.
    features
        (1 + V, n, D) as they are kept.
    """

    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    bad: NDArray[np.bool_]
    reasons: tuple[str, ...]
    features: NDArray[Any]


@dataclass(frozen=True)
class Embedder:
    """Makes features of images.

    Attributes
    ----------
    backbone
        What makes them.
    dtype
        As which they are kept.
    views
        Random views beside the image as it is; None: none.
    scaled_decode
        See `config.Views`.
    batch
        Views that go through the backbone at a time.
    workers
        Loader processes.
    """

    backbone: Backbone
    dtype: Dtype
    views: RandomViews | None
    scaled_decode: bool
    batch: int
    workers: int

    @property
    def images(self) -> int:
        """Images that go through the backbone at a time, with all their views."""
        return max(1, self.batch // (1 + (self.views.count if self.views else 0)))

    def embed(
        self,
        manifest: Manifest,
        splits: Sequence[str],
        spans: Sequence[range],
        request: StopRequest | None = None,
        access: Access | None = None,
    ) -> Iterator[Embedded]:
        """Yield the features of samples, one span after the other, and no batch across an end.

        Raises
        ------
        InputError, Fault
            For a shard that cannot be read.
        """
        follow_pixels(self.backbone.settings, manifest)  # images of other channels are refused
        batches = whole_batches(
            manifest,
            splits,
            self.backbone.size,
            self.images,
            scaled_decode=self.scaled_decode,
            workers=self.workers,
            access=access,
            spans=spans,
            views=self.views,
            channels=Channels.of(self.backbone.settings),
        )
        if request is not None:
            batches = request.until(batches)
        show = dist.rank() == 0
        with closing(batches), Meter("embedding", sum(map(len, spans)), "images", show) as meter:
            for embedded in self.embed_batches(batches):
                yield embedded
                meter.advance(len(embedded.keys))

    def embed_batches(self, batches: Iterable[WholeBatch]) -> Iterator[Embedded]:
        """Yield the features of batches: each once the next is begun, so that a GPU has always work."""
        before: _Coming | None = None
        for batch in batches:
            coming = _Coming(batch, self._features(batch))
            if before is not None:
                yield before.wait(self.dtype)
            before = coming
        if before is not None:
            yield before.wait(self.dtype)

    def _features(self, batch: WholeBatch) -> Tensor:
        """Begin to compute the features of a batch, (1 + V, n, D)."""
        device = self.backbone.device
        x = to_float(_to(batch.images, device))
        if batch.views is not None:
            assert batch.colour is not None
            assert self.views is not None
            views = _to(batch.views.flatten(0, 1), device)
            x = torch.cat([x, colour_views(views, batch.colour.flatten(), self.views.settings)])
        h = self.backbone.features(x, self.dtype)
        return h.view(-1, len(batch.keys), h.shape[1])


class _Coming:
    """Features that a device is at work on."""

    def __init__(self, batch: WholeBatch, features: Tensor) -> None:
        self.batch = batch
        self._event: torch.cuda.Event | None = None
        if features.is_cuda:
            self._features = torch.empty_like(features, device="cpu", pin_memory=True)
            self._features.copy_(features, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._features = features

    @torch.inference_mode()
    def wait(self, dtype: Dtype) -> Embedded:
        """Return them, as they are kept."""
        if self._event is not None:
            self._event.synchronize()
        batch, features = self.batch, self._features
        rounded = features.to(getattr(torch, dtype))  # what is finite in float32 need not be in float16
        infinite = ~torch.isfinite(rounded).all(2).all(0).numpy() & ~batch.bad
        bad = batch.bad | infinite
        rounded[:, torch.from_numpy(bad)] = 0
        reasons = [f"{batch.keys[i]}: {NOT_FINITE}" for i in np.flatnonzero(infinite)]
        return Embedded(batch.keys, batch.labels, bad, (*batch.reasons, *reasons), encode(rounded, dtype))


def _to(images: Tensor, device: torch.device) -> Tensor:
    return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images
