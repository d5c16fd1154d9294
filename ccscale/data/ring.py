"""A ring of pinned buffers through which a rank's batches go to a GPU.

::

    workers' parts -> | slot 0 |  --copying stream-->  the device's memory
                      | slot 1 |     a slot is filled again when its copy has been made

So a batch is copied once on the host, and memory is pinned once instead of in every step, which would cost as
much as a copy. One batch is fetched ahead, so one slot is filled while the other is copied.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Allot = Callable[[Sequence[int], torch.dtype], Tensor]
"""Returns memory of the host for a batch of a shape and dtype, with anything in it."""
SLOTS = 2


def plain_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return ordinary memory, for batches that stay on the host or are copied elsewhere."""
    return torch.empty(tuple(shape), dtype=dtype, device="cpu")


class Ring:
    """The slots of one rank."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._slots = [torch.empty(0, dtype=torch.uint8)] * SLOTS
        self._copied = [torch.cuda.Event() for _ in range(SLOTS)]
        self._now = 0

    def allot(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the next slot, in which no copy is under way any more; see `Allot`."""
        self._now = (self._now + 1) % SLOTS
        self._copied[self._now].synchronize()
        count = torch.Size(shape).numel() * dtype.itemsize
        if len(self._slots[self._now]) < count:
            pin = torch.cuda.is_available()
            self._slots[self._now] = torch.empty(count, dtype=torch.uint8, device="cpu", pin_memory=pin)
        return self._slots[self._now][:count].view(dtype).view(tuple(shape))

    def send(self, batch: Tensor) -> Tensor:
        """Start copying the last allotted slot to the device; return the copy."""
        with torch.cuda.stream(self._stream):
            moved = batch.to(self._stream.device, non_blocking=True)
        self._copied[self._now].record(self._stream)
        return moved
