"""Memory and communication of one rank in a step, combined from network, losses and engine.

The memory of a step is estimated at four moments, each at the end of the named part or at its peak:

    forward     activations of the views that go through the network at a time, and the views
    losses      both losses forward and backward; in one go with all activations, in micro-batches without any
    backward    activations are freed as gradients arrive
    step        gradients averaged between ranks, and Adam

A run with self-labelling has one more, before these: ``labelling``, when the images of a batch have been assigned
and have their labels. Its batches contain images in addition to their views.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch

from ccscale.config import LOSSES, Config, LossName
from ccscale.data.images.views import VIEWS
from ccscale.engine.build import weight_dtype
from ccscale.engine.guard import NORM_BYTES
from ccscale.plan.calibration_cost import CalibrationCost, measure_calibration
from ccscale.plan.engine_cost import EngineCost, engine_cost
from ccscale.plan.loss_cost import measure_losses
from ccscale.plan.network_cost import NetworkCost
from ccscale.train import agreement

MOMENTS = ("forward", "losses", "backward", "step")
LABELLING = "labelling"
PASSING = ("views", "activations", "embeddings")  # of a batch that is being trained on
TOLD = 3 * torch.float64.itemsize  # of an image: which it is, its cluster, how sure that is
RUNTIME_BYTES = 2 * 10**9  # of a GPU: CUDA, NCCL's buffers, convolution workspaces, the allocator's gaps


@dataclass(frozen=True)
class Sent:
    """What a rank sends and receives in a step for one purpose; `bytes` is the payload of all `calls` together."""

    what: str
    collective: str
    bytes: int
    calls: int = 1


@dataclass(frozen=True)
class RankPlan:
    """One rank of a run; the losses are measured when they are first asked for, outside of any process group.

    Attributes
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

    config: Config
    world: int
    network: NetworkCost
    cuda: bool

    @property
    def moments(self) -> tuple[str, ...]:
        """When its memory is examined."""
        return (LABELLING, *MOMENTS) if self.config.stages.boost.epochs else MOMENTS

    @cached_property
    def memory(self) -> dict[str, tuple[int, ...]]:
        """Part, to its bytes on the device in each of `moments`."""
        boost = self.config.stages.boost
        if not boost.epochs:
            return dict(self._training)
        memory: dict[str, tuple[int, ...]] = {}
        for part, numbers in self._training.items():
            # The batch has come, and nothing was made of it yet.
            memory[part] = (0 if part in PASSING else numbers[0], *numbers)
        if self._calibration is not None:
            memory["calibration"] = (self._calibration.peak, *(self._calibration.kept,) * len(MOMENTS))
        return memory

    @cached_property
    def _training(self) -> dict[str, tuple[int, int, int, int]]:
        """The same of a step of training, in each of `MOMENTS`."""
        config, network, engine = self.config, self.network, self._engine
        n, one = config.train.global_batch // self.world, config.micro_batches == 1
        # With gradients that are added up, or moved elsewhere, they do not make up for activations that go.
        plain = one and config.train.zero < 2
        backward = network.most_with_gradients - min(engine.weights, network.most_with_gradients)
        activations = (network.kept, network.kept if one else 0, backward if plain else network.most, 0)
        # In micro-batches: z and p as found and joined, then with their gradients, are held to the end.
        embeddings = (
            0 if one else VIEWS * n * (config.model.embedding + sum(config.model.trained_clusters)) * self._e
        )
        losses = measure_losses(config, self.world, self.cuda, self._losses)
        memory = {
            "parameters": (engine.weights + network.buffers,) * 4,
            "frozen parameters": (network.frozen_bytes,) * 4,
            "master weights": (engine.masters,) * 4,
            "Adam's moments": (engine.moments,) * 4,
            "averaged weights": (self._averaged,) * 4,
            "gradients": (engine.between, 0, engine.gradients, engine.averaging),
            # On a GPU the next batch is there already.
            "images": (self._views * n * network.loaded * (2 if self.cuda else 1),) * 4,
            "views": (network.views * network.numbers * self._e, 0, 0, 0),
            "activations": activations,
            "embeddings": (3 * embeddings,) * 4,
            "losses": (0, losses.peak, 0, 0),
            "CUDA, NCCL, workspaces": (RUNTIME_BYTES if self.cuda else 0,) * 4,
        }
        return {part: numbers for part, numbers in memory.items() if any(numbers)}

    @cached_property
    def sent(self) -> tuple[Sent, ...]:
        """The communication of a step."""
        config, engine, count = self.config, self._engine, self.config.micro_batches
        sent = [Sent("gradients", "all_reduce", engine.sent["all_reduce"], engine.buckets)]
        sent += [Sent("parameters", "all_gather", engine.sent["all_gather"])]
        forwards = count if count == 1 else 2 * count
        gathered = self.network.gathered * forwards + self.network.gathered_again * count
        gathers = self.network.gathers * forwards + self.network.gathers_again * count
        sent += [Sent("batch norm, forward", "all_gather", gathered, gathers)]
        summed, sums = self.network.summed_forward * forwards, self.network.sums_forward * forwards
        sent += [Sent("batch norm, forward", "all_reduce", summed, sums)]
        summed, sums = self.network.summed * count, self.network.sums * count
        sent += [Sent("batch norm, backward", "all_reduce", summed, sums)]
        for name in self._losses:
            cost = measure_losses(config, self.world, self.cuda, [name])
            sent += [
                Sent(f"{name} loss", *entry, cost.calls[entry[0]]) for entry in sorted(cost.sent.items())
            ]
        if config.stages.boost.epochs and self.world > 1:
            sent += [Sent("labels", "all_gather", config.train.global_batch * TOLD)]
        if self._calibration is not None:
            for entry in self._calibration.sent.items():
                sent += [Sent("calibration", *entry, self._calibration.calls[entry[0]])]
        norm = NORM_BYTES if self.world > 1 and config.train.zero else 0
        sent += [Sent("norm of the gradient", "all_reduce", norm)]
        sent += [Sent("agreement at the end", "all_reduce", agreement.BYTES if self.world > 1 else 0)]
        return tuple(entry for entry in sent if entry.bytes)

    @property
    def checkpoint(self) -> int:
        """Bytes of its copy in the host's memory while it is written; on the first rank, which has the most."""
        network = self._engine.weights + self.network.buffers + self._averaged
        calibration = 0 if self._calibration is None else self._calibration.kept
        return network + self._engine.masters + self._engine.moments + calibration

    @property
    def totals(self) -> dict[str, int]:
        """The sum of all parts in each moment."""
        return {
            moment: sum(part[number] for part in self.memory.values())
            for number, moment in enumerate(self.moments)
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

    @property
    def _views(self) -> int:
        """Views of an image in a batch; with a self-labelling the image as it is comes with them."""
        return VIEWS + bool(self.config.stages.boost.epochs)

    @cached_property
    def _calibration(self) -> CalibrationCost | None:
        """The cost of the calibration head, if there is one."""
        boost = self.config.stages.boost
        if not boost.epochs or boost.selection != "calibrated":
            return None
        return measure_calibration(self.config, self.world, self.network.width)

    @property
    def _e(self) -> int:
        """Bytes in a number."""
        return weight_dtype(self.config.train).itemsize

    @property
    def _averaged(self) -> int:
        """Bytes of the averages that `train.ema` keeps, of running statistics too."""
        network = self.network
        if self.config.train.ema is None:
            return 0
        return (network.weights - network.frozen) * self._e + network.buffers

    @property
    def _engine(self) -> EngineCost:
        train, network = self.config.train, self.network
        trained, count = network.weights - network.frozen, self.config.micro_batches
        return engine_cost(trained, self.world, train.zero, count, self._e, network.largest)

    @property
    def _losses(self) -> tuple[LossName, ...]:
        """The losses of the run, as if a phase had them all."""
        return tuple(name for name in LOSSES if name in self.config.losses)


def passed_views(config: Config, world: int) -> int:
    """Return the number of views that a rank sends through its network at a time."""
    return VIEWS * config.train.global_batch // world // config.micro_batches
