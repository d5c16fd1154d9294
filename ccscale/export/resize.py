"""Pillow's bilinear resize as a program of tensor operations: the same bytes, whatever the images' sizes.

Pillow goes along one axis after the other, by a triangle as wide as the scale, and rounds to 8 bits each time. From
n pixels to s, pixel y of the result weighs pixel x by::

    w(y, x) = max(0, 2 max(n, s) - |(2x + 1) s - (2y + 1) n|)        integers, but for a common factor
    k(y, x) = round(2^22 w / sum of w over x)                        Pillow's fixed point
    pixel   = floor((sum of k * pixel + 2^21) / 2^22)

A float32 holds integers up to 2^24 exactly, and that sum is larger. With k = 2048 a + b it is two products of
matrices that stay below (of b: up to a scale of 16, and beyond it hardly a pixel differs by 1)::

    pixel = floor((sum of a * pixel + floor(sum of b * pixel / 2048) + 1024) / 2048)
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ccscale.data.images.channels import Channels

_HALF = 2048  # of 22 bits


class PillowResize(nn.Module):
    """Resizes images to a square as Pillow does, of the release that is installed.

    Parameters
    ----------
    size : int
        Side of the result in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.turns = _tall_images_are_turned()

    def forward(self, images: Tensor) -> Tensor:
        """Return images (m, H, W, 3) uint8 as (m, 3, size, size), whole numbers in float32."""
        pixels = images.permute(0, 3, 1, 2).float()
        height, width = images.shape[1], images.shape[2]
        if not self.turns:
            return self.columns_first(pixels)
        tall = (height > self.size) & (height > 2 * width - self.size)
        return torch.cond(tall, self.rows_first, self.columns_first, (pixels,))

    def columns_first(self, pixels: Tensor) -> Tensor:
        """Resize along the width, then along the height."""
        return self._along_last(self._along_last(pixels).transpose(2, 3)).transpose(2, 3).contiguous()

    def rows_first(self, pixels: Tensor) -> Tensor:
        """Resize along the height, then along the width."""
        return self._along_last(self._along_last(pixels.transpose(2, 3)).transpose(2, 3)).contiguous()

    def _along_last(self, pixels: Tensor) -> Tensor:
        a, b = self._weights(torch.arange(pixels.shape[-1], device=pixels.device))
        return torch.floor((pixels @ a + torch.floor(pixels @ b / _HALF) + _HALF / 2) / _HALF)

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b, (n, size) each, for pixels x (n,)."""
        w = triangles(x, self.size)
        total = w.sum(dim=1, keepdim=True)
        # Exact: in ONNX a division of integers would be one of float32.
        k = torch.floor((w * 2**23 + total).double() / (2 * total).double())
        a = torch.floor(k / _HALF)
        return a.float().T, (k - _HALF * a).float().T


class ChannelResize(nn.Module):
    """Brings each channel of images to 0 to 1 and resizes it to a square, as Pillow does of floating-point numbers.

    Parameters
    ----------
    size : int
        Side of the result in pixels.
    channels : Channels
        What the images' numbers mean.
    """

    low: Tensor
    high: Tensor

    def __init__(self, size: int, channels: Channels) -> None:
        super().__init__()
        self.size = size
        for name, ends in (("low", channels.low), ("high", channels.high)):
            self.register_buffer(name, torch.tensor(ends, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Return images (m, H, W, C) float32, in their own numbers, as (m, C, size, size)."""
        scaled = ((images - self.low) / (self.high - self.low)).clamp(0, 1).permute(0, 3, 1, 2)
        return self._along_last(self._along_last(scaled).transpose(2, 3)).transpose(2, 3).contiguous()

    def _along_last(self, pixels: Tensor) -> Tensor:
        w = triangles(torch.arange(pixels.shape[-1], device=pixels.device), self.size).float()
        return pixels @ (w / w.sum(dim=1, keepdim=True)).T


def triangles(x: Tensor, size: int) -> Tensor:
    """Return w(y, x), (size, n), of pixels x (n,); see the module."""
    n, y = x[-1:] + 1, torch.arange(size, device=x.device)[:, None]
    return (2 * n.clamp(min=size) - ((2 * x + 1) * size - (2 * y + 1) * n).abs()).clamp(min=0)


def _tall_images_are_turned() -> bool:
    """Return whether this Pillow resizes much taller images by height first, as since release 13."""
    tall = np.random.default_rng(0).integers(0, 256, (1, 64, 20, 3), dtype=np.uint8)
    resize = PillowResize.__new__(PillowResize)
    nn.Module.__init__(resize)
    resize.size = 16
    found = resize.rows_first(torch.from_numpy(tall).permute(0, 3, 1, 2).float())
    wanted = np.asarray(Image.fromarray(tall[0]).resize((16, 16), Image.Resampling.BILINEAR))
    return bool((found[0].permute(1, 2, 0).numpy() == wanted).all())
