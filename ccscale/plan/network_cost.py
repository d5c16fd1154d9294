"""What the network takes of a rank: measured on its forward and backward pass, with shapes in place of numbers.

The passes run on torch's fake tensors in a fake process group: every operation allocates what it would, at the
rank's true batch, on no device at all and without computing a number. Each storage is counted from its making to
its release. What libraries take inside an operation (convolution workspaces) and the gaps of an allocator are not
in it.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ccscale.config import Config
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.ranks import fake_ranks


@dataclass(frozen=True)
class NetworkCost:
    """The network and one pass of some views through it, on one rank; bytes where nothing else is said.

    Attributes
    ----------
    views
        Number of views in the pass.
    weights
        Number of parameters.
    buffers
        Running statistics and the like.
    norm_channels
        Channels of all batch norms, which take part in their statistics' traffic.
    kept
        Activations that are held from the forward pass to the backward pass, and the network's input.
    most
        The most of activations and what they are worked out with, at any moment; gradients not counted.
    most_with_gradients
        The same, with the parameters' gradients as they come.
    """

    views: int
    weights: int
    buffers: int
    norm_channels: int
    kept: int
    most: int
    most_with_gradients: int

    def scaled(self, other: "NetworkCost", views: int) -> "NetworkCost":
        """Return the cost at another number of views, on the straight line through this one and `other`."""

        def at(mine: int, theirs: int) -> int:
            slope = (theirs - mine) / (other.views - self.views)
            return max(0, round(mine + slope * (views - self.views)))

        return replace(
            self,
            views=views,
            kept=at(self.kept, other.kept),
            most=at(self.most, other.most),
            most_with_gradients=at(self.most_with_gradients, other.most_with_gradients),
        )


class Network:
    """A config's network without its numbers, to be measured at any batch.

    Parameters
    ----------
    config
        The run's config.
    world
        Number of ranks: batch norm works otherwise on several.
    device
        Kind of device that it is measured for; it need not be there where it is "cpu".

    Raises
    ------
    InputError
        If the network cannot be built.
    """

    def __init__(self, config: Config, world: int, device: str) -> None:
        self._config, self._world, self._device = config, world, device
        self._mode = FakeTensorMode()
        self._type = torch.float64 if config.train.precision == "fp64" else torch.float32
        # The weights' values do not matter: nothing is downloaded or read for them.
        with torch.device("meta"):
            self._network = ContrastiveClustering(config.model.bare, config.views.size)
        with self._mode:
            _make_fake(self._network, device, self._type, channels_last=config.train.zero == 0)

    def measure(self, views: int) -> NetworkCost:
        """Send that many views forward and backward."""
        network, size = self._network, self._config.views.size
        bf16 = self._config.train.precision == "bf16"
        with fake_ranks(self._world), self._mode, torch.device(self._device):
            x = torch.empty(views, 3, size, size, dtype=self._type)
            tracker = _Tracker([x, *network.parameters(), *network.buffers()])
            trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
            handles = [p.register_post_accumulate_grad_hook(tracker.take_gradient) for p in trained]
            with tracker:
                with torch.autocast(self._device, torch.bfloat16, enabled=bf16):
                    outputs = network(x.contiguous(memory_format=torch.channels_last))
                kept = tracker.held
                torch.autograd.backward([outputs.embeddings.sum() + outputs.assignments.sum()])
            del outputs
            for handle in handles:
                handle.remove()
            network.zero_grad(set_to_none=True)
        norms = [
            m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and self._world > 1
        ]
        return NetworkCost(
            views,
            weights=sum(p.numel() for p in network.parameters()),
            buffers=sum(b.numel() * b.element_size() for b in network.buffers()),
            norm_channels=sum(norm.num_features for norm in norms),
            kept=kept,
            most=tracker.most,
            most_with_gradients=tracker.most_with_gradients,
        )


class _Tracker(TorchDispatchMode):
    """Counts the bytes of storages that operations make, from then until they are released.

    Views of what was there before are none: `there` names it.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = self.most = self.gradients = self.most_with_gradients = 0
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
        return out

    def take_gradient(self, parameter: Tensor) -> None:
        """Count a parameter's gradient, which has come, among the gradients."""
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


def _make_fake(network: nn.Module, device: str, kind: torch.dtype, channels_last: bool) -> None:
    """Give a network on the meta device fake parameters and buffers: shapes that say where they are."""

    def fake(tensor: Tensor) -> Tensor:
        out = torch.empty(
            tensor.shape, dtype=kind if tensor.is_floating_point() else tensor.dtype, device=device
        )
        return out.contiguous(memory_format=torch.channels_last) if channels_last and out.ndim == 4 else out

    known: dict[Tensor, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in known:
                known[parameter] = nn.Parameter(fake(parameter), parameter.requires_grad)
            setattr(module, name, known[parameter])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, fake(buffer))
