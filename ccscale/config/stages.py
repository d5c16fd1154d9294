"""Stages after the training epochs."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, PathText, Positive, Probability, Section
from ccscale.config.views import View


class Boost(Section):
    """Self-labelling: training on each cluster's most confident images as if the cluster were their class."""

    epochs: Free[Count] = Field(
        0,
        description="Epochs of self-labelling after train.epochs. 0: none. It can be added to a finished run; "
        "from then on train.epochs and the keys of this section are fixed.",
    )
    selection: Fixed[Literal["threshold", "calibrated"]] = Field(
        "threshold",
        description="How images are selected for labels among the most confident ones of each cluster. "
        "threshold: confidence of at least stages.boost.threshold; a label stays as long as that holds (TCL). "
        "calibrated: as many as a calibration head, trained alongside, estimates to be right, selected anew in "
        "each step (CDC).",
    )
    threshold: Fixed[Probability] = Field(
        0.99,
        description="Confidence below which an image gets no label, or loses the one it has. Only for selection "
        "threshold.",
    )
    share: Fixed[float] = Field(
        0.5,
        gt=0,
        le=1,
        description="Images of each cluster that may get a label in a step, the most confident ones, as a "
        "fraction of global_batch / K. With selection calibrated the default is 1.",
    )
    label_smoothing: Fixed[float] = Field(
        0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy."
    )
    class_balance: Fixed[bool] = Field(
        True,
        description="Weight the cross-entropy so that every cluster counts the same, however many labels it "
        "has.",
    )
    cluster_weight: Fixed[float | None] = Field(
        None,
        ge=0,
        description="Weight of the cluster loss that is added to the cross-entropy. It keeps clusters without "
        "labels alive, which the cross-entropy alone would empty. 0: none, as in TCL. null: 1 if pairs.of is "
        "views, else 0, where it would undo what pairs of neighbours have taught.",
    )
    lr: Fixed[float | None] = Field(
        None,
        gt=0,
        description="Learning rate of the stage, constant. null: a tenth of train.lr, or train.lr if only "
        "heads are trained, regardless of train.schedule.",
    )
    labels: Fixed[PathText | None] = Field(
        None,
        description="A few labels of your own: a .csv or .parquet file with the columns key and class. These "
        "labels stay, whatever the confidence. Classes are matched with clusters after the first epoch. null: "
        "none.",
    )
    weak: Fixed[View | None] = Field(
        None,
        description="Augmentation of the first view, with the keys of views, for example {crop_scale: [0.2, "
        "1.0]}. null: as views. On a feature store, both views are random views of the store.",
    )
    strong: Fixed[View | None] = Field(
        None,
        description="Augmentation of the second view, which is trained on the labels. null: the whole image "
        "with flip, rotation and shift as in views, four RandAugment operations and cutout.",
    )
    check_epochs: Fixed[Positive] = Field(
        5,
        description="Epochs between checks, after the check of the first epoch; one more follows the first epoch "
        "that trains on labels. Each check is an evaluation; the best one so far is saved as a checkpoint.",
    )
    settled: Fixed[Probability] = Field(
        0.93,
        description="Start training on labels only when the clusters agree this well with those of the "
        "previous check (Cohen's kappa) or keep no more of a store's neighbours together than there, and enough "
        "images have labels; until then, train as before. 0: do not wait, as in TCL; the first epoch then only "
        "assigns labels.",
    )
    least_labelled: Fixed[Probability] = Field(
        0.05,
        description="Fraction of images that must have a label before the stage starts.",
    )
    tolerance: Fixed[Probability] = Field(
        0.03,
        description="Allowed drop of the neighbours' kappa (nearest neighbours in the same cluster, beyond "
        "chance) below its value before the stage. A larger drop ends the stage: the run goes back to the best "
        "clusters from before it, and trains on without labels.",
    )
    least_agreement: Fixed[Probability] = Field(
        0.5,
        description="Minimum agreement (Cohen's kappa) with the clusters before the stage. Below it they have "
        "become other clusters, and the stage ends.",
    )

    @model_validator(mode="before")
    @classmethod
    def _share_of_selection(cls, keys: Any) -> Any:
        """Give a calibrated selection CDC's share: what is labelled is cut by the confidence already."""
        calibrated = isinstance(keys, dict) and keys.get("selection") == "calibrated"
        return {"share": 1.0, **keys} if calibrated else keys


class Stages(Section):
    """Stages after the training epochs."""

    boost: Boost = Field(Boost(), description="Self-labelling.")
