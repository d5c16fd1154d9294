"""The losses: objective, temperatures and weights."""

from typing import Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Probability, Section


class Loss(Section):
    """Temperatures (paper, section 'Implementation details') and weights of the two losses."""

    instance_temperature: Fixed[float] = Field(0.5, gt=0, description="Temperature of the instance loss.")
    cluster_temperature: Fixed[float] = Field(1.0, gt=0, description="Temperature of the cluster loss.")
    instance_weight: Fixed[float] = Field(
        1.0,
        ge=0,
        description="Weight of the instance loss. 0: it is not computed and the instance head is not trained.",
    )
    cluster_weight: Fixed[float] = Field(
        1.0,
        ge=0,
        description="Weight of the cluster loss. 0: it is not computed and the cluster heads are not trained.",
    )
    entropy_weight: Fixed[float] = Field(
        1.0,
        ge=0,
        description="Weight of the entropy term of the cluster loss, which keeps clusters from becoming empty "
        "(paper: 1). For clusters of unequal size, lower it or choose another prior.",
    )
    prior: Fixed[Literal["uniform", "none", "power", "estimated"]] = Field(
        "uniform",
        description="Cluster sizes that the entropy term pulls towards. uniform: equal sizes, as in the paper. "
        "none: no entropy term. power: a power law of the clusters' rank by size (prior_exponent). estimated: "
        "a running average of the sizes on which both views agree (shares_decay).",
    )
    prior_exponent: Fixed[float] = Field(
        0.5,
        gt=0,
        le=4,
        description="For prior power: the r-th largest cluster has r^-prior_exponent times the size of the "
        "largest. With 10 clusters, the largest is 10 times the smallest at 1 and 100 times at 2.",
    )
    objective: Fixed[Literal["contrast", "temi"]] = Field(
        "contrast",
        description="Objective of the cluster heads. contrast: the cluster loss of the paper, which contrasts "
        "the clusters of both views. temi: TEMI, which maximizes the mutual information of the views with a "
        "moving average of the heads as teacher.",
    )
    temi_beta: Fixed[float] = Field(
        0.6,
        gt=0,
        le=1,
        description="Exponent beta of TEMI. Smaller values allow clusters of more unequal size.",
    )
    teacher_decay: Fixed[Probability] = Field(
        0.996, description="Decay per step of the moving average of the heads that is TEMI's teacher."
    )
    prior_decay: Fixed[Probability] = Field(
        0.9,
        description="Decay per step of the moving average of the teacher's assignments, which is TEMI's prior.",
    )
    shares_decay: Fixed[Probability] = Field(
        0.99,
        description="Decay per step of the estimated prior. Too low, and it follows the run: a growing cluster "
        "raises its own prior and grows further.",
    )
    ring_bytes: Free[Count] = Field(
        2**30,
        description="If the embeddings of the global batch exceed this many bytes, ranks pass them around in a "
        "ring instead of gathering all of them on each rank.",
    )

    @model_validator(mode="after")
    def _prior(self) -> "Loss":
        if self.objective == "temi" and self.prior != "uniform":
            raise ValueError(
                f"prior {self.prior} needs objective contrast. TEMI has no entropy term; temi_beta sets "
                "how equal its cluster sizes are. Leave prior out"
            )
        return self

    @property
    def prior_weight(self) -> float:
        """Weight of the divergence from the prior."""
        return 0.0 if self.prior == "none" else self.entropy_weight
