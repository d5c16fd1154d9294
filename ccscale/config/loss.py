"""The losses: objective, temperatures and weights."""

from typing import Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Probability, Section


class Loss(Section):
    """Temperatures (paper, section 'Implementation details') and weights of the two losses."""

    instance_temperature: Fixed[float] = Field(0.5, gt=0, description="Temperature of the instance loss.")
    cluster_temperature: Fixed[float] = Field(1.0, gt=0, description="Temperature of the cluster loss.")
    instance_weight: Fixed[float] = Field(
        1.0, ge=0, description="Weight of the instance loss; 0: it is not computed, and its head not trained."
    )
    cluster_weight: Fixed[float] = Field(
        1.0, ge=0, description="Weight of the cluster loss; 0: it is not computed, and its head not trained."
    )
    entropy_weight: Fixed[float] = Field(
        1.0,
        ge=0,
        description="Weight of the cluster loss's entropy term, which keeps clusters from emptying; 1 in the "
        "paper. Data whose clusters differ in size want less, or another prior.",
    )
    prior: Fixed[Literal["uniform", "none", "power", "estimated"]] = Field(
        "uniform",
        description="The sizes that the entropy term draws clusters to. uniform: even ones, as in the paper. "
        "none: there is no such term. power: a power of their rank by size (prior_exponent). estimated: those that "
        "they have had so far, by what both views agree on (shares_decay).",
    )
    prior_exponent: Fixed[float] = Field(
        0.5,
        gt=0,
        le=4,
        description="Of prior power: the r-th largest cluster is to have r^-exponent of the largest. Of 10 "
        "clusters the largest is then 10 times the smallest with 1, 100 times with 2.",
    )
    objective: Fixed[Literal["contrast", "temi"]] = Field(
        "contrast",
        description="What trains the cluster heads. contrast: the paper's cluster loss, by which a cluster is told "
        "from the others in both views. temi: the views' mutual information, by a teacher, the heads' average.",
    )
    temi_beta: Fixed[float] = Field(
        0.6, gt=0, le=1, description="TEMI's exponent: the smaller, the less even the clusters may become."
    )
    teacher_decay: Fixed[Probability] = Field(
        0.996, description="How much of TEMI's teacher stays in a step."
    )
    prior_decay: Fixed[Probability] = Field(
        0.9, description="How much of the teacher's mean assignments, TEMI's prior, stays in a step."
    )
    shares_decay: Fixed[Probability] = Field(
        0.99,
        description="How much of an estimated prior stays in a step. It may not follow the run too closely: "
        "clusters that grow make it draw more to them.",
    )
    ring_bytes: Free[Count] = Field(
        2**30,
        description="Where the embeddings of the global batch are larger, they go round from rank to rank, and no "
        "rank holds all of them.",
    )

    @model_validator(mode="after")
    def _prior(self) -> "Loss":
        if self.objective == "temi" and self.prior != "uniform":
            raise ValueError(
                f"prior {self.prior} goes with objective contrast: TEMI has no entropy term, and temi_beta says "
                "how even its clusters become; leave prior out"
            )
        return self

    @property
    def prior_weight(self) -> float:
        """Weight of the divergence from the prior."""
        return 0.0 if self.prior == "none" else self.entropy_weight
