"""The network of Contrastive Clustering: images -> (features, embeddings, assignments).

h = backbone(x)  (m, D)      z = instance head(h)  (m, d)      p = cluster head(h)  (m, K)

If the features are known already, as in a feature store, they replace the images as input.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from ccscale.config import Loss, Model
from ccscale.errors import InputError
from ccscale.model.average import Average
from ccscale.model.backbone import NoBackbone, build_backbone
from ccscale.model.dropout import Draws
from ccscale.model.frozen import FrozenPart, freeze
from ccscale.model.heads import CentreHeads, InstanceHead, make_centre_heads, make_cluster_heads
from ccscale.model.image_statistics import image_statistics
from ccscale.model.norm import use_global_batch_norm
from ccscale.model.recompute import checkpointing, use_grad_checkpointing
from ccscale.model.teacher import Teacher, even_shares
from ccscale.model.trial import try_backbone


class _Served(NamedTuple):
    features: Tensor
    embeddings: Tensor
    assignments: Tensor


class Outputs(_Served):
    """Outputs of the network for m images or features: a tuple of three, plus those of all cluster heads.

    Parameters
    ----------
    features : Tensor
        The backbone's features, (m, D).
    embeddings : Tensor
        The instance head's embeddings, (m, d), of unit length.
    assignments : Tensor
        Soft assignments of the selected cluster head, (m, K); rows sum to 1.
    heads : tuple of Tensor, optional
        Soft assignments of all cluster heads; default only the selected one.
    targets : tuple of Tensor, optional
        The same for their teacher, during training with one.
    """

    heads: tuple[Tensor, ...] = ()
    targets: tuple[Tensor, ...] = ()

    def __new__(
        cls,
        features: Tensor,
        embeddings: Tensor,
        assignments: Tensor,
        heads: tuple[Tensor, ...] = (),
        targets: tuple[Tensor, ...] = (),
    ) -> Self:
        """Make the tuple."""
        outputs = super().__new__(cls, features, embeddings, assignments)
        outputs.heads, outputs.targets = heads or (assignments,), targets
        return outputs


class ContrastiveClustering(nn.Module):
    """Backbone and both heads, with batch norm over the global batch.

    Parameters
    ----------
    settings : Model
        The config's section ``model``.
    size : int
        Side of the images in pixels.
    width : int, optional
        D, to build it without a backbone, for features instead of images.

    Attributes
    ----------
    width : int
        D.
    teacher : Teacher or None
        Teacher of the cluster heads, if the objective has one; made by `begin_training`.
    shares : Tensor or None
        (ΣK,): cluster sizes so far, for each head, if the prior of the loss is estimated; made by `begin_training`.
    serving : int
        Index of the cluster head that makes the assignments; set by `serve`.
    origin : str or None
        Where it was loaded from; for the Hugging Face Hub with the commit: ``hf://OWNER/NAME@COMMIT``.
    draws : Draws
        Random numbers of the backbone during training. Each step seeds them; otherwise torch's generator is used.
    average : Average or None
        The averaged weights, if `keep_average` was called.

    Raises
    ------
    InputError
        If the backbone cannot be built with these settings.
    """

    mean: Tensor
    std: Tensor
    average: Average | None
    shares: Tensor | None

    def __init__(self, settings: Model, size: int, width: int | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.size = size
        self.backbone: nn.Module
        self.frozen: FrozenPart
        draws: tuple[int | None, ...] = ()
        random = torch.get_rng_state()
        if width is None:
            width, draws = try_backbone(settings, size)  # before anything is downloaded or given memory
            self.backbone = use_global_batch_norm(build_backbone(settings, size))
            if settings.grad_checkpointing:
                use_grad_checkpointing(self.backbone, settings.backbone)
            self.frozen = freeze(self.backbone, settings)
        else:
            self.backbone, self.frozen = NoBackbone(), FrozenPart(is_all=True)
        self.width, self.draws = width, Draws(draws)
        if self.frozen.is_all:  # its heads begin alike, on images and on a store of their features
            torch.set_rng_state(random)
        self.instance_head = InstanceHead(self.width, settings)
        self.cluster_head = make_cluster_heads(self.width, settings)
        self.centre_heads = make_centre_heads(self.width, settings)
        self.serving = 0
        self.origin: str | None = None
        self.teacher: Teacher | None = None
        self.register_buffer("shares", None)
        for name, values in zip(("mean", "std"), image_statistics(settings, self.backbone), strict=True):
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)
        self.register_module("average", None)

    def forward(self, x: Tensor) -> Outputs:
        """Return features, embeddings and assignments of images, or of features.

        In training, m includes both views: a single forward pass, so that batch norm sees them together.

        Parameters
        ----------
        x : Tensor
            Images (m, C, size, size) in [0, 1], or features (m, D) as the backbone makes them.

        Returns
        -------
        Outputs
            Features (m, D), embeddings (m, d), soft assignments (m, K).
        """
        return self.heads_of(x if x.ndim == 2 else self.features_of(x))

    def features_of(self, images: Tensor) -> Tensor:
        """Return the backbone's features of images.

        Parameters
        ----------
        images : Tensor
            (m, C, size, size) in [0, 1].

        Returns
        -------
        Tensor
            (m, D).
        """
        if self.settings.normalize:
            images = (images - self.mean) / self.std
        draws = self.draws if self.training and self.draws.placed else None
        kind, device = self.frozen.kind, images.device.type
        rounds = kind is not None and not torch.is_autocast_enabled(device)  # as in an evaluation
        with (
            draws or nullcontext(),
            torch.autocast(device, kind) if rounds else nullcontext(),
            torch.no_grad() if self.frozen.is_all else nullcontext(),
            checkpointing(self.backbone, draws) if self.settings.grad_checkpointing else nullcontext(),
        ):
            features: Tensor = self.backbone(images)
        return features.to(images.dtype) if rounds else features

    def heads_of(self, features: Tensor) -> Outputs:
        """Return the outputs of the heads for features.

        Parameters
        ----------
        features : Tensor
            (m, D), as the backbone makes them.

        Returns
        -------
        Outputs
            The features, embeddings (m, d), soft assignments (m, K).
        """
        found, embeddings = self.cluster_head(features), self.instance_head(features)
        heads = found if isinstance(found, tuple) else (found,)
        if self.training:  # by the trained heads alone
            targets = () if self.teacher is None else self.teacher(features)
            return Outputs(features, embeddings, heads[0], heads, targets)
        heads += self.centre_heads(features, embeddings)
        return Outputs(features, embeddings, heads[self.serving], heads)

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and assignments alone, as in evaluation: embeddings are made where centres need them.

        Parameters
        ----------
        x : Tensor
            As for `forward`.

        Returns
        -------
        features : Tensor
            (m, D).
        assignments : Tensor
            (m, K), of the selected head.
        """
        features = x if x.ndim == 2 else self.features_of(x)
        if self.serving >= len(self.settings.trained_clusters):
            return features, self.heads_of(features).assignments
        found = self.cluster_head(features)
        return features, found[self.serving] if isinstance(found, tuple) else found

    def begin_training(self, loss: Loss) -> None:
        """Add the state that the loss needs besides the weights: a teacher of the cluster heads, or their shares.

        Parameters
        ----------
        loss : Loss
            The config's section ``loss``.
        """
        clusters = self.settings.trained_clusters
        if loss.objective == "temi":  # it begins as what the heads are now
            self.teacher = Teacher(self.cluster_head, clusters)
        if loss.prior == "estimated":
            self.register_buffer("shares", even_shares(clusters))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of the features that the heads take."""
        return next(self.parameters()).dtype

    @property
    def k(self) -> int:
        """K, the number of clusters of the selected head."""
        return self.settings.head_clusters[self.serving]

    def serve(self, head: int) -> Self:
        """Select the cluster head that makes the assignments.

        Parameters
        ----------
        head : int
            Index in `Outputs.heads`.

        Returns
        -------
        ContrastiveClustering
            Itself.

        Raises
        ------
        InputError
            If there is no such head, or its clusters have not been found yet.
        """
        heads = len(self.settings.head_clusters)
        if not 0 <= head < heads:
            raise InputError(f"there is no cluster head {head}: the network has {heads}, counted from 0")
        found = head - len(self.settings.trained_clusters)
        if found >= 0 and not self.centre_heads[found].is_found:
            raise InputError(
                "the run has no clusters yet: k-means finds them when training ends, and at evaluations and saves "
                "before. Run its `ccscale train` again, which resumes it"
            )
        self.serving = head
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; frozen parts stay in evaluation mode.

        Parameters
        ----------
        mode : bool, default True
            Whether it is trained.

        Returns
        -------
        ContrastiveClustering
            Itself.
        """
        super().train(mode)
        self.frozen.keep_still()
        return self

    @property
    def frozen_names(self) -> frozenset[str]:
        """Names of frozen entries in the state dict."""
        return frozenset(f"backbone.{name}" for name in self.frozen.names)

    def keep_average(self) -> None:
        """Start averaging the weights, from their current values."""
        self.average = Average(self._parts())

    def update_average(self, decay: float, skipped: Tensor | None = None) -> None:
        """Update the average with the weights after a step; see `Average.update`.

        Parameters
        ----------
        decay : float
            Decay of the average.
        skipped : Tensor, optional
            Above 0 if the step was skipped; the average then stays unchanged.
        """
        assert self.average is not None
        self.average.update(self._parts(), decay, skipped)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights, if any, within the context.

        Yields
        ------
        None
            Nothing.
        """
        if self.average is not None:
            self.average.swap(self._parts())
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap(self._parts())

    def _parts(self) -> nn.ModuleDict:
        """Return the parts that are averaged: all that are trained, and no averages themselves."""
        parts, others = self.named_children(), (Average, Teacher, CentreHeads)
        return nn.ModuleDict({name: part for name, part in parts if not isinstance(part, others)})

    @torch.inference_mode()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cluster of each image and its confidence.

        The network must be in evaluation mode, as `ccscale.load` returns it.

        Parameters
        ----------
        images : Tensor
            (m, C, size, size) in [0, 1].

        Returns
        -------
        clusters : Tensor
            (m,) int64.
        confidence : Tensor
            (m,) float32, the soft assignment to that cluster.
        """
        confidence, cluster = self(images).assignments.max(dim=1)
        return cluster, confidence
