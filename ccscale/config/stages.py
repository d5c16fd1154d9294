"""What a run goes through after its training epochs."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, PathText, Positive, Probability, Section
from ccscale.config.views import View


class Boost(Section):
    """Self-labelling: the clusters' most confident images are trained on as if their clusters were classes."""

    epochs: Free[Count] = Field(
        0,
        description="Epochs of it, after train.epochs; 0: none. A run that is finished may be given some; from "
        "then on train.epochs and the keys here may not change.",
    )
    selection: Fixed[Literal["threshold", "calibrated"]] = Field(
        "threshold",
        description="Which of each cluster's most confident images get a label. threshold: those whose confidence "
        "reaches stages.boost.threshold; a label stays while it does (TCL). calibrated: as many as are right by a "
        "confidence that is calibrated beside the rest, in each step anew (CDC).",
    )
    threshold: Fixed[Probability] = Field(
        0.99,
        description="An image whose confidence is below it has no label, or loses the one that it has; of "
        "selection threshold alone.",
    )
    share: Fixed[float] = Field(
        0.5,
        gt=0,
        le=1,
        description="Of each cluster so many of a batch's most confident images may get a label: this share of "
        "what it would have, were all clusters of one size; 1 where selection is calibrated, and none is told.",
    )
    label_smoothing: Fixed[float] = Field(
        0.0, ge=0, lt=1, description="How much of a label is shared among all clusters in the cross-entropy."
    )
    class_balance: Fixed[bool] = Field(
        True,
        description="Let each cluster's labels weigh the same in the cross-entropy, however many there are.",
    )
    cluster_weight: Fixed[float | None] = Field(
        None,
        ge=0,
        description="Weight of the cluster loss of both views beside the cross-entropy with the labels: it keeps "
        "clusters without labels in use, which the cross-entropy empties; 0: none, as in TCL; null: 1 where "
        "pairs.of is views, else 0, for it would undo what pairs of neighbours have taught.",
    )
    lr: Fixed[float | None] = Field(
        None,
        gt=0,
        description="Learning rate, which stays; null: a tenth of train.lr, whatever its schedule, and train.lr "
        "itself where heads alone are trained: a backbone must not move faster than its clusters can follow.",
    )
    labels: Fixed[PathText | None] = Field(
        None,
        description="A few labels of the images, a .csv or .parquet file of `key` and `class`: these stay, "
        "whatever the confidence. Their classes are matched with clusters after the first epoch.",
    )
    weak: Fixed[View | None] = Field(
        None,
        description="What the first view of an image is, as `views` says it: {crop_scale: [0.2, 1.0], …}; null: as "
        "views. On a feature store both are two of its random views.",
    )
    strong: Fixed[View | None] = Field(
        None,
        description="What the second view is, which learns the labels; null: the whole image, with what views has "
        "of flip, rotation and shift, four operations of RandAugment and cutout.",
    )
    check_epochs: Fixed[Positive] = Field(
        5,
        description="Epochs between looks at how it goes, beside the first's: each is an evaluation, and a "
        "checkpoint where it is the best so far.",
    )
    settled: Fixed[Probability] = Field(
        0.93,
        description="It trains by labels from the check on that finds images in the clusters of the check before, "
        "to this agreement (Cohen's kappa) or more, and labels enough; until then the run trains on as before, if "
        "need be to its end. 0: it does not wait, as in TCL: the first epoch only labels.",
    )
    least_labelled: Fixed[Probability] = Field(
        0.05,
        description="The stage does not begin where a smaller share of the images than this has a label.",
    )
    tolerance: Fixed[Probability] = Field(
        0.03,
        description="How much of the kappa of neighbours (whether they are in one cluster) may be lost against the "
        "clusters before; with more the stage ends, and the run serves its best clusters from before.",
    )
    least_agreement: Fixed[Probability] = Field(
        0.5,
        description="The stage ends where the clusters agree less than this with those before (Cohen's kappa): "
        "they are other clusters then.",
    )

    @model_validator(mode="before")
    @classmethod
    def _share_of_selection(cls, keys: Any) -> Any:
        """Give a calibrated selection CDC's share: what is labelled is cut by the confidence already."""
        calibrated = isinstance(keys, dict) and keys.get("selection") == "calibrated"
        return {"share": 1.0, **keys} if calibrated else keys


class Stages(Section):
    """What a run goes through after its training epochs."""

    boost: Boost = Field(Boost(), description="Self-labelling.")
