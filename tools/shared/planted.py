"""Features of images as they are, and as they would be had something befallen them: blur, or no colour."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, rgb_to_grayscale

from ccscale.config import Model
from ccscale.data.images.colour import to_float
from ccscale.data.shards.manifest import Manifest
from ccscale.data.whole_images import whole_batches
from ccscale.embed.backbone import backbone_of_timm
from ccscale.progress import Meter

BATCH = 64
SHARP = 64  # pixels of a side that are left after a blur: its deviation is the side over this


def blurred(images: Tensor) -> Tensor:
    """Return images (n, 3, s, s) without what is finer than some of their pixels."""
    sigma = images.shape[-1] / SHARP
    return gaussian_blur(images, [2 * round(3 * sigma) + 1] * 2, [sigma] * 2)


def grey(images: Tensor) -> Tensor:
    """Return images (n, 3, s, s) without colour."""
    return rgb_to_grayscale(images, 3)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda images: images,
    "blurred": blurred,
    "grey": grey,
}


def features_of(
    shards: str,
    split: str,
    model: Model,
    size: int,
    place: Path,
    changes: Sequence[str],
    most: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return features (n, D) of a split's first images by some of `CHANGES`, and ``labels`` (n,).

    They are kept in the file `place`, and taken from it where it is there.
    """
    if not place.exists():
        manifest = Manifest.load(shards)
        total = sum(shard.nsamples for shard in manifest.select([split]))
        spans = [range(min(total, most or total))]
        backbone = backbone_of_timm(model, size, 0, torch.device("cpu"))
        found: dict[str, list[NDArray[np.generic]]] = {name: [] for name in (*changes, "labels")}
        with Meter("embedding", len(spans[0]), "images", True) as meter:
            for batch in whole_batches(manifest, [split], size, BATCH, spans=spans):
                images = to_float(batch.images)
                for name in changes:
                    found[name].append(backbone.features(CHANGES[name](images), "float32").numpy())
                found["labels"].append(batch.labels)
                meter.advance(len(images))
        whole: dict[str, Any] = {name: np.concatenate(parts) for name, parts in found.items()}
        np.savez(place, **whole)
    with np.load(place) as kept:
        return {name: kept[name] for name in kept.files}
