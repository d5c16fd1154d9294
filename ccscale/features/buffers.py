"""Buffers that a loop reuses in every iteration.

If the allocator keeps freed memory (`heap.py`), a process that allocates large blocks of varying sizes grows to
several times its actual need, since free gaps rarely fit the next request. So blocks that are needed for every
tile are kept by name.
"""

import math

import torch
from torch import Tensor


class Buffers:
    """Tensors on a device, by name; they grow to the largest that is requested."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a tensor of any content; that which had the name before is overwritten with it."""
        count = math.prod(shape)
        kept = self._kept.pop(name, None)
        if kept is None or kept.dtype != dtype or len(kept) < count:
            kept = None  # gone before the larger one comes
            kept = torch.empty(count + count // 4, dtype=dtype, device=self.device)
        self._kept[name] = kept
        return kept[:count].view(shape)
