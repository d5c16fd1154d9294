"""When and on what the clusters are measured."""

from pydantic import Field

from ccscale.config.section import Count, Free, Names, Positive, Section


class Evaluate(Section):
    """When and on what the clusters are measured."""

    every: Free[Count] = Field(
        0, description="Epochs between evaluations while training; 0: only at the end."
    )
    splits: Free[Names | None] = Field(
        None, description="By default the splits trained on; of several phases those of the last."
    )
    batch: Free[Positive] = Field(256, description="Images a rank takes at a time.")
