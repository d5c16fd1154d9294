"""One optimizer step on a global batch: views -> network -> both losses -> gradients -> optimizer.

A rank whose share of the global batch does not fit into memory processes it in micro-batches (GradCache: Gao et
al., "Scaling deep contrastive learning batch size under memory limited setup", 2021). The losses need only the
embeddings of all images, not their computation graph::

    1.  without gradient, one micro-batch after the other:  images -> z, p
    2.  losses of the whole global batch, and their gradients with respect to z and p
    3.  one micro-batch after the other again, with gradient:  images -> z, p;  backward from the gradients of 2

so the gradient is the same as without micro-batches, at the price of a second forward pass. Views and dropout draw
the same random numbers both times. With m micro-batches, one consists of every m-th image of the global batch,
whichever rank has it. Batch norm uses the statistics of a micro-batch over all ranks, not of the global batch:
with it the result depends on the size of the micro-batches (but not on the number of ranks); with other norms it
does not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from ccscale import dist
from ccscale.config import LOSSES, Config, Loss, LossName
from ccscale.data.images.device_colour import colour_views
from ccscale.data.images.views import VIEWS
from ccscale.data.pairs import PairBatch
from ccscale.engine.adapter import Engine
from ccscale.engine.build import weight_dtype
from ccscale.engine.guard import StepGuard, Verdict
from ccscale.engine.parameter_groups import set_rate, train_by
from ccscale.engine.rates import averaging
from ccscale.evaluate.assign import evaluating
from ccscale.features.batches import Batch
from ccscale.loss import instance_loss
from ccscale.loss.cluster import ClusterLoss
from ccscale.loss.prior import prior_of
from ccscale.loss.temi import TemiLoss
from ccscale.model.backbone import has_one_stem
from ccscale.model.network import Outputs
from ccscale.model.norm import keep_running_statistics
from ccscale.train.boost.losses import boost_losses
from ccscale.train.losses import Losses


class Stepper:
    """Takes one rank's steps.

    Parameters
    ----------
    config
        The run's config.
    engine
        From `build_engine`.
    device
        Where it trains.
    note
        Called with the name of each part of a step as it begins.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        device: torch.device,
        note: Callable[[str], None] = lambda part: None,
    ) -> None:
        self.config, self.engine, self.device, self._note = config, engine, device, note
        self.dtype = weight_dtype(config.train)
        # Where autocast's first convolution would round the views to bfloat16, and nothing else looks at them.
        rounds = device.type == "cuda" and config.train.precision == "bf16" and not config.model.normalize
        self.view_dtype = torch.bfloat16 if rounds and has_one_stem(engine.network.backbone) else self.dtype
        self.guard = StepGuard(engine, device, config.train.clip)

    def take(
        self,
        batch: Batch,
        by: Sequence[LossName] = LOSSES,
        rate: float | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Losses, Verdict]:
        """Take a step by some of the losses, or skip it if it is not finite; the batch is on the device.

        Parameters
        ----------
        batch
            This rank's part of the global batch.
        by
            The losses.
        rate
            The learning rate; by default the config's.
        labels
            (N,): of the global batch, where it is trained by labels (`boost_losses`).

        Returns
        -------
        Losses, Verdict
            The losses before the step, and what was found.
        """
        self.guard.begin()
        train_by(self.engine.optimizer, by)
        set_rate(self.engine.optimizer, self.config.train.lr if rate is None else rate)
        count = self.config.micro_batches
        if count == 1:
            outputs = self._forward(batch, 0, 1)
            z, heads = outputs.embeddings, outputs.heads
            with self._part("losses"):
                losses = self._take_losses(z, heads, outputs.targets, by, labels)
            with self._part("backward"):
                self.engine.backward(losses.loss)
            with self._part("optimizer"):
                self.engine.step()
        else:
            losses, z, heads = self._take_in_micro_batches(batch, count, by, labels)
        verdict = self.guard.end(z, heads)
        network = self.engine.network
        is_taught = labels is None or self.config.boost_cluster_weight > 0
        if network.teacher is not None and "cluster" in by and is_taught:
            decay = self.config.loss.teacher_decay
            network.teacher.heads.update(network.cluster_head, decay, verdict.skipped)
        if self.config.train.ema is not None:
            network.update_average(averaging(self.config.train.ema, batch.step), verdict.skipped)
        return losses.detach(), verdict

    def _take_in_micro_batches(
        self, batch: Batch, count: int, by: Sequence[LossName], labels: Tensor | None
    ) -> tuple[Losses, Tensor, tuple[Tensor, ...]]:
        with torch.no_grad(), keep_running_statistics(self.engine.network):
            found = [self._forward(batch, number, count) for number in range(count)]
        z = _join([outputs.embeddings for outputs in found]).requires_grad_()  # (2n, d)
        by_head = zip(*(outputs.heads for outputs in found), strict=True)
        heads = tuple(_join(list(parts)).requires_grad_() for parts in by_head)  # of each (2n, K)
        targets = tuple(
            _join(list(parts)) for parts in zip(*(outputs.targets for outputs in found), strict=True)
        )
        with self._part("losses"):
            losses = self._take_losses(z, heads, targets, by, labels)
        losses.loss.backward()
        gradients = [None if joined.grad is None else _split(joined.grad, count) for joined in (z, *heads)]
        for number in range(count):
            outputs = self._forward(batch, number, count)
            with self._part("backward"):
                pulls = [
                    (output * gradient[number]).sum()
                    for output, gradient in zip((outputs.embeddings, *outputs.heads), gradients, strict=True)
                    if gradient is not None
                ]
                self.engine.backward(torch.stack(pulls).sum())
            with self._part("optimizer"):
                self.engine.step()  # it steps after the last one
        return losses, z, heads

    def _take_losses(
        self,
        z: Tensor,
        heads: Sequence[Tensor],
        targets: Sequence[Tensor],
        by: Sequence[LossName],
        labels: Tensor | None,
    ) -> Losses:
        network, settings = self.engine.network, self.config.loss
        shares = network.shares if network.teacher is None else network.teacher.prior
        half = self.config.train.precision == "bf16"
        if labels is None:
            return take_losses(settings, z, heads, by, targets, shares, half)
        cluster, weight = None, self.config.boost_cluster_weight
        if weight and "cluster" in by:
            cluster = _cluster_loss(settings, heads, targets, shares, half)
        boost = self.config.stages.boost
        return boost_losses(settings, boost, z, heads[0], labels, by, cluster, weight, half)

    def _part(self, name: str) -> Any:
        """Return a context in which a part of the step is taken."""
        self._note(name)
        return record_function(name)

    def _forward(self, batch: Batch, number: int, count: int) -> Outputs:
        """Put a micro-batch through colour and network, both views at once, view a first."""
        n = batch.held.shape[1]  # (2, n, S, S, 3), or features (2, n, D)
        first = dist.rank() * n
        places = torch.arange(first + number, first + n, count, device=self.device)
        both = torch.cat([places, places + self.config.train.global_batch])
        self.engine.network.draws.place(self.config.seed, batch.step, both)
        with self._part("views"):
            inputs = self._inputs(batch, slice(VIEWS), slice(number, None, count))
        with self._part("forward"):
            return self.engine(inputs)

    def _inputs(self, batch: Batch, views: slice, images: slice) -> Tensor:
        """Return some views of some of a batch's images as the network takes them, the first views first."""
        inputs = batch.held[views, images].flatten(0, 1)
        if isinstance(batch, PairBatch):
            colour = batch.colour[views].part(images).flatten()
            return colour_views(inputs, colour, self.config.views, self.view_dtype)  # (2m, 3, S, S)
        return inputs.to(self.dtype)

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return features (n, D) and soft assignments (n, K) of a batch's images as they are, its third view.

        They are those of the network in evaluation mode, of the averaged weights where there are some.
        """
        network, count = self.engine.network, self.config.micro_batches
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16"
        )
        with self._part("labelling"), evaluating(network), network.averaged(), autocast:
            raw, n = slice(VIEWS, None), batch.held.shape[1]
            parts = [
                self._inputs(batch, raw, slice(i * n // count, (i + 1) * n // count)) for i in range(count)
            ]
            features, assignments = zip(*map(network.assign, parts), strict=True)
            return torch.cat(features), torch.cat(assignments)


def take_losses(
    settings: Loss,
    z: Tensor,
    heads: Sequence[Tensor],
    by: Sequence[LossName],
    targets: Sequence[Tensor] = (),
    shares: Tensor | None = None,
    half: bool = False,
) -> Losses:
    """Return losses of the global batch; the clusters' traffic goes on behind the instances' work.

    Parameters
    ----------
    settings
        The config's section.
    z, heads
        This rank's embeddings (2n, d), and the assignments (2n, K) of each cluster head, view a first.
    by
        Which are computed.
    targets
        The teacher's assignments of each head, where the objective has a teacher.
    shares
        (ΣK,): what a prior that follows the run has come to; changed in place.
    half
        Whether products on a GPU may be of 16 bits a number, as under ``train.precision=bf16``.
    """
    z_a, z_b = z.chunk(2)
    parts = []
    instances, clusters = None, None
    cluster = _cluster_loss(settings, heads, targets, shares, half) if "cluster" in by else None
    if "instance" in by:
        temperature, ring_bytes = settings.instance_temperature, settings.ring_bytes
        instances = instance_loss(z_a, z_b, temperature, ring_bytes=ring_bytes, check=False, half=half)
        parts.append(settings.instance_weight * instances)
    if cluster is not None:
        clusters = cluster()
        parts.append(settings.cluster_weight * clusters)
    return Losses(torch.stack(parts).sum(), instances, clusters)


def _cluster_loss(
    settings: Loss, heads: Sequence[Tensor], targets: Sequence[Tensor], shares: Tensor | None, half: bool
) -> Callable[[], Tensor]:
    """Send for what the clusters' loss needs of the other ranks; return what waits for it and gives the loss.

    It is the mean over the heads: beside the instance loss they weigh as much as one.
    """
    if settings.objective == "temi":
        assert shares is not None
        options = settings.temi_beta, settings.prior_decay
        return TemiLoss(heads, targets, shares, *options, check=False).value
    of_heads = [None] * len(heads) if shares is None else shares.split([p.shape[1] for p in heads])
    temperature, weight = settings.cluster_temperature, settings.prior_weight
    losses = []
    for p, own in zip(heads, of_heads, strict=True):
        prior = prior_of(settings.prior, settings.prior_exponent, own, settings.shares_decay)
        p_a, p_b = p.chunk(2)  # check: the schedule gives every rank as many images
        loss = ClusterLoss(p_a, p_b, temperature, check=False, entropy_weight=weight, prior=prior, half=half)
        losses.append(loss)
    return lambda: torch.stack([loss.value() for loss in losses]).mean()


def _join(parts: list[Tensor]) -> Tensor:
    """Put micro-batches (2m, ...) together as the images lie in the batch, (2n, ...); see `_split`."""
    views = torch.stack([part.unflatten(0, (2, -1)) for part in parts], dim=2)  # (2, m, count, ...)
    return views.flatten(0, 2)


def _split(whole: Tensor, count: int) -> list[Tensor]:
    """Take (2n, ...) apart into micro-batches (2m, ...): image i of a view goes to number i modulo their count."""
    views = whole.unflatten(0, (2, -1))
    return [views[:, number::count].flatten(0, 1) for number in range(count)]
