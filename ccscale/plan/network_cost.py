"""Memory and communication of the network, measured on a forward and a backward pass (`meter.py`)."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ccscale.config import Config
from ccscale.engine.build import weight_dtype
from ccscale.model.global_norm import planned_for_gpus
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.meter import CostMeter, fake_ranks


@dataclass(frozen=True)
class NetworkCost:
    """The network and one pass of some views through it, on one rank; bytes where nothing else is said.

    Attributes
    ----------
    views
        Number of views in the pass.
    numbers, loaded
        Of one view: the numbers that the network takes, and its bytes as it is read: pixels, or features.
    width
        D, of the features.
    weights, frozen, largest
        Number of parameters; how many of them are not trained; how many are in the largest trained tensor.
    frozen_bytes
        Of those that are not trained.
    buffers
        Running statistics and the like.
    gathered, gathered_again, summed
        Batch norms' statistics that are sent: gathered going forward, and where activations are made again; added
        up going backward.
    summed_forward
        Of those that are added up going forward: between many ranks, in place of gathering.
    gathers, gathers_again, sums, sums_forward
        In how many calls.
    kept
        Activations that are held from the forward pass to the backward pass, and the network's input.
    most
        The most of activations and what they are worked out with, at any moment; gradients not counted.
    most_with_gradients
        The same, with the parameters' gradients as they come.
    """

    views: int
    numbers: int
    loaded: int
    width: int
    weights: int
    frozen: int
    largest: int
    frozen_bytes: int
    buffers: int
    gathered: int
    gathered_again: int
    summed: int
    summed_forward: int
    gathers: int
    gathers_again: int
    sums: int
    sums_forward: int
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
        Kind of device that it is measured for; it need not be there.
    width
        D of the features that it takes where a run's data are a feature store.

    Raises
    ------
    InputError
        If the network cannot be built.
    """

    def __init__(self, config: Config, world: int, device: str, width: int | None = None) -> None:
        self._config, self._world, self._gpu = config, world, device == "cuda"
        self._device = device = "cuda" if self._gpu and torch.cuda.is_available() else "cpu"
        size = config.views.size
        self._shape = (config.model.in_chans, size, size) if width is None else (width,)
        self._mode = FakeTensorMode()
        self._type = weight_dtype(config.train)
        # The weights' values do not matter: nothing is downloaded or read for them.
        with torch.device("meta"):
            self._network = ContrastiveClustering(config.model.bare, size, width)
            self._network.begin_training(config.loss)
        with self._mode:
            make_fake(self._network, device, self._type, channels_last=config.train.zero == 0)
            if config.train.precision == "bf16":
                self._network.frozen = self._network.frozen.kept_as(torch.bfloat16)

    def measure(self, views: int) -> NetworkCost:
        """Send that many views forward and backward."""
        network, images = self._network, len(self._shape) == 3
        bf16, of_channels = self._config.train.precision == "bf16", self._config.model.of_channels
        kernels = planned_for_gpus() if self._gpu else nullcontext()
        with fake_ranks(self._world), self._mode, torch.device(self._device), kernels:
            x = torch.empty(views, *self._shape, dtype=self._type)
            meter = CostMeter([x, *network.parameters(), *network.buffers()])
            trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
            handles = [p.register_post_accumulate_grad_hook(meter.take_gradient) for p in trained]
            with meter:
                with torch.autocast(self._device, torch.bfloat16, enabled=bf16):
                    outputs = network(x.contiguous(memory_format=torch.channels_last) if images else x)
                kept, sent, calls = meter.held, meter.sent.copy(), meter.calls.copy()
                torch.autograd.backward([outputs.embeddings.sum() + outputs.assignments.sum()])
            del outputs
            for handle in handles:
                handle.remove()
            network.zero_grad(set_to_none=True)
        return NetworkCost(
            views,
            numbers=math.prod(self._shape),
            loaded=math.prod(self._shape) * (1 if images and not of_channels else torch.float32.itemsize),
            width=network.width,
            weights=sum(p.numel() for p in network.parameters()),
            frozen=sum(p.numel() for p in network.parameters() if not p.requires_grad),
            largest=max(p.numel() for p in trained),
            frozen_bytes=sum(p.nbytes for p in network.parameters() if not p.requires_grad),
            buffers=sum(b.numel() * b.element_size() for b in network.buffers()),
            gathered=sent["all_gather"],
            gathered_again=meter.sent["all_gather"] - sent["all_gather"],
            summed=meter.sent["all_reduce"] - sent["all_reduce"],
            summed_forward=sent["all_reduce"],
            gathers=calls["all_gather"],
            gathers_again=meter.calls["all_gather"] - calls["all_gather"],
            sums=meter.calls["all_reduce"] - calls["all_reduce"],
            sums_forward=calls["all_reduce"],
            kept=kept,
            most=meter.most,
            most_with_gradients=meter.most_with_gradients,
        )


def make_fake(network: nn.Module, device: str, kind: torch.dtype, channels_last: bool = False) -> None:
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
