"""Measures memory and communication of calls with shapes instead of numbers.

They run on torch's fake tensors in a fake process group: every operation records its allocations without a device
and without computing anything, and messages go nowhere. Each storage is counted from its allocation to its
release. Memory that libraries use inside an operation (convolution workspaces) and the fragmentation of an
allocator are not included.
"""

import logging
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ccscale.model.global_norm import empty_statistics

COLLECTIVES = {"c10d::_allgather_base_": "all_gather", "c10d::allreduce_": "all_reduce", "c10d::send": "send"}


def _shapes_of_norm() -> None:
    """Tell torch the shapes of its kernels that `model.global_norm` takes on a GPU; it knows them there alone."""

    def alike(*tensors: Any) -> Tensor:
        return torch.empty_like(tensors[0])

    fake = torch.library.register_fake
    fake("aten::batch_norm_elemt", alike)
    fake("aten::batch_norm_backward_elemt", alike)
    fake("aten::batch_norm_update_stats", lambda x, *_: tuple(empty_statistics(x) for _ in range(2)))
    fake("aten::batch_norm_backward_reduce", lambda g, *_: tuple(empty_statistics(g) for _ in range(4)))


_shapes_of_norm()


@contextmanager
def fake_ranks(world: int) -> Iterator[None]:
    """Be rank 0 of `world` for the length of the context: collectives allocate as ever, and nothing is sent."""
    if world == 1:  # there may be a real group of one
        yield
        return
    if not torch._C._dispatch_has_kernel_for_dispatch_key("c10d::_allgather_base_", "Meta"):
        import_module("torch.distributed._tools.fake_collectives")  # before 2.11 it tells torch their shapes
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    torch_dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        yield
    finally:
        torch_dist.destroy_process_group()


class CostMeter(TorchDispatchMode):
    """Counts the bytes of storages that operations make, from then until they are released, and what is sent.

    Parameters
    ----------
    there
        Tensors that were there before; views of them are no new storages.

    Attributes
    ----------
    held
        Bytes now, without the parameters' gradients.
    most, most_with_gradients
        The most at any moment.
    sent, calls
        Bytes by collective: of a gather what comes out, of a sum what goes in, of a message the message; and how
        many there were.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = self.most = self.gradients = self.most_with_gradients = 0
        self.sent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._there = {tensor.untyped_storage()._cdata for tensor in there}
        self._known: dict[int, int] = {}  # storage: its bytes
        self._gradients: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._meet(value.untyped_storage())
        if (name := function.name()) in COLLECTIVES:
            self.sent[COLLECTIVES[name]] += sum(tensor.nbytes for tensor in tree_iter(args[0]))
            self.calls[COLLECTIVES[name]] += 1
        return out

    def take_gradient(self, parameter: Tensor) -> None:
        """Count a parameter's gradient as a gradient."""
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        if key in self._known and key not in self._gradients:
            self._gradients.add(key)
            self.held -= self._known[key]
            self.gradients += self._known[key]

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known and key not in self._there:
            self._known[key] = size = storage.nbytes()
            self.held += size
            self.most = max(self.most, self.held)
            self.most_with_gradients = max(self.most_with_gradients, self.held + self.gradients)
            weakref.finalize(storage, self._part, key).atexit = False

    def _part(self, key: int) -> None:
        size = self._known.pop(key)
        if key in self._gradients:
            self._gradients.remove(key)
            self.gradients -= size
        else:
            self.held -= size
