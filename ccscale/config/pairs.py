"""What a positive pair is."""

from typing import Literal

from pydantic import Field

from ccscale.config.section import Fixed, Positive, Section


class Pairs(Section):
    """What a positive pair is: the two inputs that the losses pull together."""

    of: Fixed[Literal["views", "neighbours", "both"]] = Field(
        "views",
        description="What makes a positive pair. views: two random views of one image, as in the paper. "
        "neighbours: an image and one of its nearest neighbours, unaugmented. both: a random view of each. "
        "Neighbours come from a feature store (data.features) made with `ccscale embed --neighbours`.",
    )
    neighbours: Fixed[Positive | None] = Field(
        None, description="Number of nearest neighbours to draw from. null: all that the store holds."
    )
