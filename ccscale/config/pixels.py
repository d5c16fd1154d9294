"""What the numbers of an image mean, where they are more than red, green and blue of 8 bits."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ccscale.config.section import Fixed, Section

MOST_CHANNELS = 16  # each has its places among a view's random numbers
PERCENTILES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)
"""Those that are measured."""

PixelType = Literal["uint8", "uint16", "int16", "float32"]
RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "int16": (-32768.0, 32767.0)}
"""Least and greatest value of the types that have a range of their own."""

_Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=MOST_CHANNELS)]


class Pixels(Section):
    """What the numbers of an image mean; what is null follows from the shards, where that was measured."""

    scale: Fixed[Literal["range", "percentiles"] | None] = Field(
        None,
        description="Images are kept as they are stored, of 16 bits, floating point or any channels, and each "
        "channel becomes 0 to 1: range: from the least to the greatest value of its type (of floating-point "
        "numbers: in the data); percentiles: from one percentile of the channel in the data to another, and what "
        "is beyond them is cut off. null: range, but with in_chans 3, where images are read as RGB of 8 bits.",
    )
    percentiles: Fixed[tuple[float, float]] = Field(
        (0.1, 99.9),
        description=f"Those of scale percentiles, of {', '.join(f'{each:g}' for each in PERCENTILES)}.",
    )
    type: Fixed[PixelType | None] = Field(
        None, description="Of the numbers; images of another type are refused. null: that of the shards."
    )
    low: Fixed[_Numbers | None] = Field(
        None, description="What becomes 0, for each channel, in place of what scale says."
    )
    high: Fixed[_Numbers | None] = Field(
        None, description="What becomes 1, for each channel, in place of what scale says."
    )
    mean: Fixed[_Numbers | None] = Field(
        None,
        description="Of each channel, in the images' own numbers, which model.normalize subtracts. null: that of "
        "the shards.",
    )
    std: Fixed[_Numbers | None] = Field(
        None,
        description="Deviation of each channel, which model.normalize divides by. null: that of the shards.",
    )

    shown: Fixed[tuple[Annotated[int, Field(ge=0, lt=MOST_CHANNELS)], ...] | None] = Field(
        None,
        description="Channels, counted from 0, that pictures show as red, green and blue. null: those of the "
        "shards, which are the first three unless `shards make --shown` says otherwise.",
    )

    @field_validator("percentiles")
    @classmethod
    def _known(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1] or not set(value) <= set(PERCENTILES):
            raise ValueError(
                f"must be two of {', '.join(f'{each:g}' for each in PERCENTILES)}, the smaller one first"
            )
        return value

    @field_validator("std")
    @classmethod
    def _above(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError("must be above 0")
        return value

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.low is None or self.high is None:
            return self
        if len(self.low) == len(self.high) and any(
            low >= high for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError("low must be below high in each channel")
        return self
