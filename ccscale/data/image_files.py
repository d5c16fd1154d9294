"""Images from files, as the network sees them in evaluation."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ccscale.data.images.colour import to_float
from ccscale.data.images.whole import whole_image
from ccscale.data.sources.contents import File
from ccscale.errors import BadImage


def read_images(images: Iterable[str | Path | bytes], size: int) -> Tensor:
    """Read images as the network sees them in evaluation: the whole image, resized, RGB.

    Parameters
    ----------
    images : iterable of str, Path or bytes
        Paths, m of them, or encoded images as bytes.
    size : int
        Side in pixels; a network's `size`.

    Returns
    -------
    Tensor
        (m, 3, size, size) float32 in [0, 1].

    Raises
    ------
    BadImage
        If one cannot be decoded; with its path or number.
    """
    whole = []
    for number, image in enumerate(images):
        data = image if isinstance(image, bytes) else File(str(image)).read()
        try:
            whole.append(whole_image(data, size))
        except BadImage as error:
            name = f"image {number}" if isinstance(image, bytes) else image
            raise BadImage(f"{name} cannot be decoded: {error}") from None
    stacked = np.stack(whole) if whole else np.empty((0, size, size, 3), dtype=np.uint8)
    return to_float(torch.from_numpy(stacked))
