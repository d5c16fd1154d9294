"""Images from files, as the network sees them in evaluation."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ccscale.config import Model
from ccscale.data.images.channels import Channels, empty_images
from ccscale.data.images.colour import to_float
from ccscale.data.images.whole import whole_image
from ccscale.data.sources.contents import File
from ccscale.errors import BadImage


def read_images(images: Iterable[str | Path | bytes], size: int, model: Model | None = None) -> Tensor:
    """Read images as the network sees them in evaluation: the whole image, resized.

    Parameters
    ----------
    images : iterable of str, Path or bytes
        Paths, m of them, or encoded images as bytes.
    size : int
        Side in pixels; a network's `size`.
    model : Model, optional
        The network's `settings`, which give the number of channels and how pixel values are scaled. Default:
        8-bit RGB.

    Returns
    -------
    Tensor
        (m, C, size, size) float32 in [0, 1].

    Raises
    ------
    BadImage
        If an image cannot be decoded; the message has its path or index.
    """
    channels = None if model is None else Channels.of(model)
    whole = []
    for number, image in enumerate(images):
        data = image if isinstance(image, bytes) else File(str(image)).read()
        try:
            whole.append(whole_image(data, size, channels=channels))
        except BadImage as error:
            name = f"image {number}" if isinstance(image, bytes) else image
            raise BadImage(f"{name} cannot be decoded: {error}") from None
    stacked = np.stack(whole) if whole else empty_images((0, size, size), channels)
    return to_float(torch.from_numpy(stacked))
