"""The two losses: temperatures and weights."""

from pydantic import Field

from ccscale.config.section import Count, Fixed, Free, Section


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
    ring_bytes: Free[Count] = Field(
        2**30,
        description="Where the embeddings of the global batch are larger, they go round from rank to rank, and no "
        "rank holds all of them.",
    )
