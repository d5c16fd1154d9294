"""``ccscale config --views``: draws some images as training will see them.

A row for each view: the images as they are, then their random views in the first epochs, as `ccscale train` would
draw them; then weak and strong ones, where a stage asks for them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ccscale.config import Views
from ccscale.data.images.channels import Channels, empty_images
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import draw_views
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.draw.contact_sheet import Row, draw_sheet
from ccscale.draw.preview import check_target, spread, writing
from ccscale.errors import BadImage, InputError

COLUMNS = 12
TILE = 96
TEXT = 120


class Seen(NamedTuple):
    """Views of an image that are drawn together, as training draws them."""

    names: tuple[str, ...]
    """Of the rows, one for each view."""
    settings: tuple[Views, ...]
    """Of each view."""
    epochs: int
    """How many epochs of them are shown."""


def draw_view_sheet(
    path: str | Path,
    manifest: Manifest,
    splits: Sequence[str],
    seed: int,
    seen: Sequence[Seen],
    channels: Channels | None = None,
) -> None:
    """Draw views of images at equal distances in some splits into a PNG.

    Parameters
    ----------
    path
        Where it goes.
    manifest, splits
        The images.
    seed
        The run's.
    seen
        The views, from top to bottom.
    channels
        What an image's numbers mean; None: RGB of 8 bits. Of channels those are drawn that pictures show, from 0 to
        1 as training has them.

    Raises
    ------
    InputError
        If there are no images, a shard cannot be read, or `path` is no place for a PNG.
    """
    path = Path(path)
    check_target(path)
    reader = SampleReader(manifest, splits)
    samples = spread(np.arange(len(reader)), COLUMNS)
    if not len(samples):
        raise InputError(
            f"there are no images in {', '.join(splits)} of {manifest.root}: there is nothing to draw"
        )
    encoded = [reader[int(sample)].data for sample in samples]

    def rows() -> Iterator[Row]:
        for group in seen:
            for epoch in range(group.epochs):
                views = _views(encoded, group.settings, seed, epoch, samples, channels, manifest.shown)
                detail = f"epoch {epoch + 1}" if group.epochs > 1 else ""
                for name, tiles in zip(group.names, views, strict=True):
                    yield Row(name, detail, tiles)

    count = sum(group.epochs * len(group.names) for group in seen)
    heading = f"{manifest.name}: what training sees of {len(samples)} images of {len(reader):,}"
    with writing(path):
        draw_sheet(path, heading, rows(), count, len(samples), tile=TILE, text=TEXT)


def _views(
    encoded: Sequence[bytes],
    settings: Sequence[Views],
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    channels: Channels | None,
    shown: Sequence[int] | None,
) -> list[list[NDArray[np.uint8] | None]]:
    """Return a tile of each view of each image; None for an image that cannot be decoded."""
    size = settings[0].size
    images = empty_images((len(settings), len(samples), size, size), channels)
    params, good = draw_views(settings, seed, epoch, samples), []
    for i, data in enumerate(encoded):
        try:
            crop_views(data, settings, params, i, images[:, i], channels)
            good.append(True)
        except BadImage:
            good.append(False)
    coloured = apply_colour(torch.from_numpy(images).flatten(0, 1), params.colour.flatten(), settings[0])
    if channels is not None:
        coloured = _three(coloured, shown or (0, 1, 2)).clamp_(0, 1)
    pixels = (
        coloured.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).unflatten(0, images.shape[:2]).numpy()
    )
    return [
        [_tile(seen) if there else None for seen, there in zip(view, good, strict=True)] for view in pixels
    ]


def _three(images: Tensor, shown: Sequence[int]) -> Tensor:
    """Return images (m, C, S, S) as red, green and blue, (m, 3, S, S); what is not there is black, one is grey."""
    chosen = [channel for channel in shown if channel < images.shape[1]][:3] or [0]
    if len(chosen) == 1:
        return images[:, chosen * 3]
    rgb = images.new_zeros((len(images), 3, *images.shape[2:]))
    rgb[:, : len(chosen)] = images[:, chosen]
    return rgb


def _tile(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a view to the size of a tile; enlarged pixels stay pixels."""
    how = Image.Resampling.BICUBIC if len(pixels) * 2 >= TILE else Image.Resampling.NEAREST
    return np.array(Image.fromarray(pixels).resize((TILE, TILE), how))
