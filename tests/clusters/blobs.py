"""Features of made-up classes: directions, and what spreads around them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

WIDTH = 64


def blobs(
    classes: Iterable[int], images: int, seed: int, spread: float = 0.6
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (n, `WIDTH`) of so many images of each class, and their classes (n,)."""
    centres = np.random.default_rng(77).standard_normal((16, WIDTH))
    of = np.repeat(np.array(list(classes), np.int64), images)
    noise = np.random.default_rng(seed).standard_normal((len(of), WIDTH))
    return (5 * (centres[of] + spread * noise)).astype(np.float32), of
