"""Convolutions of maps so small that each place of the output sees the whole input: one matrix product, on a CPU.

A ResNet makes of 32 px a map of 1 x 1 at last, where of a kernel's nine weights one is used. PyTorch's convolution
on a CPU (oneDNN) computes the gradients of all nine, and slowly: without AVX-512 the backward pass of 512 to 512
channels takes 350 ms for 256 images on two cores, and 10 as the product of what is used. That is two fifths of a
small network's step.

With a kernel k, padding p and stride s, row i of the output sees the input's rows si - p to si - p + k. The first
sees all H of them if k - p >= H, and so do the others then: the last one begins at H + p - k <= 0 at most. Columns
alike. So none is multiplied by padding, and the weights of row i are the kernel's rows p - si to p - si + H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmallMapConv2d(nn.Conv2d):
    """A convolution; where all places of the output see the whole map, on a CPU, it is a matrix product.

    The parameters are those of `nn.Conv2d`, the result is the same up to the rounding of sums.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (m, C, H, W) to (m, O, h, w)."""
        # What a GPU would gain was not measured, and a program that is exported may run on one.
        if not input.is_cpu or input.ndim != 4 or torch.compiler.is_exporting():
            return super().forward(input)
        rows = _kernel_rows(input.shape[2], self.kernel_size[0], self.stride[0], int(self.padding[0]))
        columns = _kernel_rows(input.shape[3], self.kernel_size[1], self.stride[1], int(self.padding[1]))
        places = len(rows) * len(columns) * input.shape[2:].numel()
        # None, or a matrix larger than the kernel, which would be kept for the backward pass.
        if not 0 < places <= self.weight.shape[2:].numel():
            return super().forward(input)
        weight = self.weight.permute(0, 2, 3, 1)  # as the network's weights and maps lie in memory
        dense = torch.stack([weight[:, row, column] for row in rows for column in columns]).flatten(2)
        bias = None if self.bias is None else self.bias.repeat(len(dense))
        out = F.linear(input.permute(0, 2, 3, 1).flatten(1), dense.flatten(0, 1), bias)
        return out.unflatten(1, (len(rows), len(columns), self.out_channels)).permute(0, 3, 1, 2)


def multiply_small_maps(backbone: nn.Module) -> None:
    """Make a `SmallMapConv2d` of each plain convolution; whether its map is small, each call finds out."""
    for module in backbone.modules():
        if (
            type(module) is nn.Conv2d  # what is derived from it pads in its own way
            and module.groups == 1
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = SmallMapConv2d


def _kernel_rows(size: int, kernel: int, stride: int, padding: int) -> list[slice]:
    """Return for each row of the output the rows of the kernel on the input's; none if any row sees only a part."""
    if kernel - padding < size:
        return []
    places = (size + 2 * padding - kernel) // stride + 1
    return [slice(padding - stride * i, padding - stride * i + size) for i in range(places)]
