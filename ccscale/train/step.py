"""One optimizer step on a global batch: views -> network -> both losses -> gradients -> Adam.

A rank whose share of the global batch does not fit its memory takes it in pieces (GradCache: Gao et al., "Scaling
deep contrastive learning batch size under memory limited setup", 2021). The losses need the embeddings of all
images, not how they were made::

    1.  without gradient, piece by piece:  images -> z, p
    2.  losses of the whole global batch;  their gradients to z and p
    3.  piece by piece again, with gradient:  images -> z, p;  backward from the gradients of 2

so the gradient is the same as in one go, for a second forward pass. Views and dropout draw the same numbers both
times. A piece is every so-manieth image of the global batch, whichever rank has it. Batch norm takes its statistics
over a piece of all ranks, not over the global batch: with it the result depends on the size of the pieces (but not
on the number of ranks); with other norms it does not.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from ccscale import dist
from ccscale.config import Config
from ccscale.data.colour import apply_colour
from ccscale.data.stream import PairBatch
from ccscale.loss import instance_loss
from ccscale.loss.cluster import ClusterLoss
from ccscale.model.network import Outputs
from ccscale.model.norm import keep_running_statistics
from ccscale.train.guard import StepGuard, Verdict


class Losses(NamedTuple):
    """The losses of a step, scalars on the device."""

    loss: Tensor
    instance_loss: Tensor
    cluster_loss: Tensor


class Stepper:
    """Takes one rank's steps.

    Parameters
    ----------
    config
        The run's config.
    engine
        The DeepSpeed engine, from `build_engine`.
    device
        Where it trains.
    """

    def __init__(self, config: Config, engine: Any, device: torch.device) -> None:
        self.config, self.engine, self.device = config, engine, device
        self.dtype = torch.float64 if config.train.precision == "fp64" else torch.float32
        self.guard = StepGuard(engine, device)

    def take(self, batch: PairBatch) -> tuple[Losses, Verdict]:
        """Take a step, or skip it if it is not finite; return its losses, before the step, and what was found."""
        self.guard.begin()
        images = batch.images.to(self.device, non_blocking=True)  # (2, n, S, S, 3)
        pieces = self.config.pieces
        if pieces == 1:
            _, z, p = self._forward(batch, images, 0, 1)
            losses = self._losses(z, p)
            with record_function("backward"):
                self.engine.backward(losses.loss)
            with record_function("optimizer"):
                self.engine.step()
        else:
            losses, z, p = self._take_in_pieces(batch, images, pieces)
        return Losses(*(loss.detach() for loss in losses)), self.guard.end(z, p)

    def _take_in_pieces(self, batch: PairBatch, images: Tensor, pieces: int) -> tuple[Losses, Tensor, Tensor]:
        with torch.no_grad(), keep_running_statistics(self.engine.module):
            found = [self._forward(batch, images, piece, pieces) for piece in range(pieces)]
        z = _join([outputs.embeddings for outputs in found]).requires_grad_()  # (2n, d)
        p = _join([outputs.assignments for outputs in found]).requires_grad_()  # (2n, K)
        losses = self._losses(z, p)
        losses.loss.backward()
        assert z.grad is not None
        assert p.grad is not None
        for piece, (dz, dp) in enumerate(zip(_cut(z.grad, pieces), _cut(p.grad, pieces), strict=True)):
            outputs = self._forward(batch, images, piece, pieces)
            with record_function("backward"):
                pull = (outputs.embeddings * dz).sum() + (outputs.assignments * dp).sum()
                self.engine.backward(pull, scale_wrt_gas=False)
            with record_function("optimizer"):
                self.engine.step()  # it steps after the last piece
        return losses, z, p

    def _forward(self, batch: PairBatch, images: Tensor, piece: int, pieces: int) -> Outputs:
        """Put a piece of the images through colour and network, both views at once, view a first."""
        # Dropout and the like draw from here: a resume needs no random state, these numbers give it.
        place = (batch.step * dist.world() + dist.rank()) * pieces + piece
        torch.manual_seed((self.config.seed << 32) + place)
        with record_function("views"):
            colour = batch.colour.part(slice(piece, None, pieces)).flatten()
            views = apply_colour(  # (2m, 3, S, S)
                images[:, piece::pieces].flatten(0, 1), colour, self.config.views, self.dtype
            )
        with record_function("forward"):
            outputs: Outputs = self.engine(views.contiguous(memory_format=torch.channels_last))
        return outputs

    def _losses(self, z: Tensor, p: Tensor) -> Losses:
        """Return both losses of the global batch; the clusters' traffic goes on behind the instances' work."""
        settings = self.config.loss
        (z_a, z_b), (p_a, p_b) = z.chunk(2), p.chunk(2)
        with record_function("losses"):
            # check: the schedule gives every rank as many images.
            cluster = ClusterLoss(p_a, p_b, settings.cluster_temperature, check=False)
            instances = instance_loss(
                z_a, z_b, settings.instance_temperature, ring_bytes=settings.ring_bytes, check=False
            )
            clusters = cluster.value()
            return Losses(instances + clusters, instances, clusters)


def _join(parts: list[Tensor]) -> Tensor:
    """Put pieces (2m, ...) together as the images lie in the batch, (2n, ...); see `_cut`."""
    views = torch.stack([part.unflatten(0, (2, -1)) for part in parts], dim=2)  # (2, m, pieces, ...)
    return views.flatten(0, 2)


def _cut(whole: Tensor, pieces: int) -> list[Tensor]:
    """Take (2n, ...) apart into pieces (2m, ...): image i of a view goes to piece i modulo their number."""
    views = whole.unflatten(0, (2, -1))
    return [views[:, piece::pieces].flatten(0, 1) for piece in range(pieces)]
