"""The intensities of views of channels: each channel its own factor and shift, then noise of each pixel.

They are changed where the views are cut, on the worker, in float32. The noise comes from a generator that is keyed
by two of the view's own random numbers: the same for a sample's view in whichever batch, worker or rank it is
drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ccscale.config import MOST_CHANNELS, Views


@dataclass(frozen=True, slots=True)
class IntensityParameters:
    """What is done to the intensities of views; arrays with any leading axes, (2, B) as drawn.

    Attributes
    ----------
    factor, shift
        (2, B, 16) float32: of each channel that there may be; 1 and 0: as it is.
    sigma
        (2, B) float32: deviation of the noise; 0: none.
    key
        (2, B, 2) uint64: of the noise.
    """

    factor: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    key: npt.NDArray[np.uint64]

    @classmethod
    def stack(cls, views: Sequence["IntensityParameters"]) -> "IntensityParameters":
        """Join views, each (B, ...), to (V, B, ...)."""
        names = ("factor", "shift", "sigma", "key")
        return cls(*(np.stack([getattr(view, name) for view in views]) for name in names))

    def change(self, image: npt.NDArray[np.float32], view: int, i: int) -> None:
        """Change an image (height, width, C) in place."""
        count = image.shape[2]
        image *= self.factor[view, i, :count]
        image += self.shift[view, i, :count]
        if (sigma := self.sigma[view, i]) > 0:
            noise = np.random.Generator(np.random.Philox(key=self.key[view, i]))
            image += sigma * noise.standard_normal(image.shape, dtype=np.float32)


SLOTS = 2 * MOST_CHANNELS + 5


def draw_intensity(settings: Views, u: npt.NDArray[np.float64]) -> IntensityParameters:
    """Return the parameters of one view of each image, by its numbers (B, `SLOTS`), used or not."""
    n = MOST_CHANNELS
    applied = u[:, 0, None] < settings.intensity
    factor = 1 + (2 * u[:, 1 : 1 + n] - 1) * settings.scale_intensity
    shift = (2 * u[:, 1 + n : 1 + 2 * n] - 1) * settings.shift_intensity
    low, high = settings.noise_sigma
    sigma = low + u[:, 2 + 2 * n] * (high - low)
    return IntensityParameters(
        factor=np.where(applied, factor, 1).astype(np.float32),
        shift=np.where(applied, shift, 0).astype(np.float32),
        sigma=np.where(u[:, 1 + 2 * n] < settings.noise, sigma, 0).astype(np.float32),
        key=(u[:, 3 + 2 * n : 5 + 2 * n] * 2**32).astype(np.uint64),
    )
