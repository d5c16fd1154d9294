"""What the two halves of a pair are."""

from typing import Literal

from pydantic import Field

from ccscale.config.section import Fixed, Positive, Section


class Pairs(Section):
    """What the two halves of a pair are, which the losses draw together."""

    of: Fixed[Literal["views", "neighbours", "both"]] = Field(
        "views",
        description="views: two random views of an image (the paper). neighbours: an image and one of its nearest "
        "neighbours, as they are. both: a random view of each of these. Neighbours are those of a feature store "
        "(data.features), found by `ccscale embed --neighbours`.",
    )
    neighbours: Fixed[Positive | None] = Field(
        None, description="Neighbours of an image that one is drawn from; by default all that the store has."
    )
