"""When and on which data the clusters are evaluated."""

from pydantic import Field

from ccscale.config.section import Count, Free, Names, Positive, Section


class Evaluate(Section):
    """When and on which data the clusters are evaluated."""

    every: Free[Count] = Field(
        0, description="Epochs between evaluations during training. 0: only at the end."
    )
    splits: Free[Names | None] = Field(
        None,
        description="Splits to evaluate on. null: the splits trained on; with phases, those of the last phase.",
    )
    batch: Free[Positive] = Field(256, description="Images per rank and forward pass.")
