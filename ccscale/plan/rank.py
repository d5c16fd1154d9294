"""One rank's memory and traffic in a step, put together from network, losses and engine. Pure.

A step's memory is looked at in four moments, each the end of what it is named after or the most during it:

    forward     activations of the views that go through the network at a time, and the views
    losses      both losses forward and backward; in one go with all activations, in micro-batches without any
    backward    activations are given up as gradients come
    step        gradients averaged between ranks, and Adam
"""

from collections import Counter
from dataclasses import dataclass

import torch

from ccscale.config import Config
from ccscale.data.images.views import VIEWS
from ccscale.plan.engine_cost import engine_cost
from ccscale.plan.loss_cost import LossCost, cluster_cost, instance_cost, step_cost
from ccscale.plan.network_cost import NetworkCost
from ccscale.train import agreement

MOMENTS = ("forward", "losses", "backward", "step")
RUNTIME_BYTES = 2 * 10**9  # of a GPU: CUDA, NCCL's buffers, convolution workspaces, the allocator's gaps


@dataclass(frozen=True)
class Sent:
    """What a rank sends and receives in a step for one purpose; `bytes` is the collective's payload."""

    what: str
    collective: str
    bytes: int


@dataclass(frozen=True)
class RankPlan:
    """One rank of a run.

    Attributes
    ----------
    memory
        Part, to its bytes on the device in each of `MOMENTS`.
    sent
        In a step.
    checkpoint
        Bytes of its copy in the host's memory while it is written; on the first rank, which has the most.
    """

    memory: dict[str, tuple[int, int, int, int]]
    sent: tuple[Sent, ...]
    checkpoint: int

    @property
    def totals(self) -> dict[str, int]:
        """The sum of all parts in each moment."""
        return {
            moment: sum(part[number] for part in self.memory.values())
            for number, moment in enumerate(MOMENTS)
        }

    @property
    def peak(self) -> int:
        """The most that is held at any moment."""
        return max(self.totals.values())

    @property
    def traffic(self) -> Counter[str]:
        """Bytes sent in a step, by collective."""
        count: Counter[str] = Counter()
        for entry in self.sent:
            count[entry.collective] += entry.bytes
        return count


def passed_views(config: Config, world: int) -> int:
    """Return the number of views that a rank sends through its network at a time."""
    return VIEWS * config.train.global_batch // world // config.micro_batches


def plan_rank(config: Config, world: int, network: NetworkCost, cuda: bool) -> RankPlan:
    """Put a rank's plan together.

    Parameters
    ----------
    config
        The run's config; `world` ranks divide its batches.
    world
        Number of ranks.
    network
        The network's cost at `passed_views`.
    cuda
        Whether the rank computes on a GPU.
    """
    train, model, loss = config.train, config.model, config.loss
    e = 8 if train.precision == "fp64" else 4
    n, micro_batches, one = train.global_batch // world, config.micro_batches, config.micro_batches == 1
    pixels = config.views.size**2 * 3
    engine = engine_cost(network.weights, world, train.zero, micro_batches, e)
    losses: dict[str, LossCost] = {}  # of the phase that has the most
    if "instance" in config.losses:
        losses["instance loss"] = instance_cost(
            n, world, model.embedding, loss.instance_temperature, loss.ring_bytes, cuda, e
        )
    if "cluster" in config.losses:
        losses["cluster loss"] = cluster_cost(n, world, model.clusters, loss.cluster_temperature, cuda, e)
    together = step_cost(*losses.values()) if len(losses) == 2 else next(iter(losses.values()))

    # With gradients that are added up, or moved elsewhere, they do not make up for activations that go.
    plain = one and train.zero < 2
    backward = network.most_with_gradients - min(engine.weights, network.most_with_gradients)
    activations = (network.kept, network.kept if one else 0, backward if plain else network.most, 0)
    # In micro-batches: z and p as found and joined, then with their gradients, are held to the end.
    embeddings = 0 if one else VIEWS * n * (model.embedding + model.clusters) * e
    memory = {
        "parameters": (engine.weights + network.buffers,) * 4,
        "master weights": (engine.masters,) * 4,
        "Adam's moments": (engine.moments,) * 4,
        "gradients": (engine.between, 0, engine.gradients, engine.averaging),
        "images": (VIEWS * n * pixels * (2 if cuda else 1),) * 4,  # on a GPU the next batch is there already
        "views": (network.views * pixels * e, 0, 0, 0),
        "activations": activations,
        "embeddings": (3 * embeddings,) * 4,
        "losses": (0, together.peak, 0, 0),
        "CUDA, NCCL, workspaces": (RUNTIME_BYTES if cuda else 0,) * 4,
    }
    sent = [Sent("gradients", "all_reduce", engine.sent["all_reduce"])]
    sent += [Sent("parameters", "all_gather", engine.sent["all_gather"])]
    forwards = micro_batches if one else 2 * micro_batches
    statistics = 2 * network.norm_channels * e
    sent += [Sent("batch norm, forward", "all_gather", world * statistics * forwards)]
    sent += [Sent("batch norm, backward", "all_reduce", statistics * micro_batches)]
    for name, cost in losses.items():
        sent += [Sent(name, collective, bytes_) for collective, bytes_ in sorted(cost.sent.items())]
    number = torch.float32.itemsize if world > 1 else 0  # in float64, too
    sent += [Sent("norm of the gradient", "all_reduce", number if train.clip is not None else 0)]
    sent += [Sent("whether it is finite", "all_reduce", number if train.zero else 0)]
    sent += [Sent("agreement at the end", "all_reduce", agreement.BYTES if world > 1 else 0)]
    return RankPlan(
        {part: numbers for part, numbers in memory.items() if any(numbers)},
        tuple(entry for entry in sent if entry.bytes),
        engine.weights + network.buffers + engine.masters + engine.moments,
    )
