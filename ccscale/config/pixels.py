"""How pixel values are read and scaled, for images other than 8-bit RGB."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ccscale.config.section import Fixed, Section

MOST_CHANNELS = 16  # each has its places among a view's random numbers
PERCENTILES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)
"""The percentiles that are measured."""

PixelType = Literal["uint8", "uint16", "int16", "float32"]
RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "int16": (-32768.0, 32767.0)}
"""Minimum and maximum of the integer types."""

_Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=MOST_CHANNELS)]


class Pixels(Section):
    """How pixel values are read and scaled. Keys that are null are taken from the measurements in the shards."""

    scale: Fixed[Literal["range", "percentiles"] | None] = Field(
        None,
        description="Keep images as stored (16-bit, floating-point, any number of channels) and scale each "
        "channel to [0, 1]. range: from the minimum to the maximum of the pixel type, or of the data if "
        "floating-point. percentiles: between two percentiles of the channel over the data, clipped beyond. "
        "null: 8-bit RGB if in_chans is 3, else range.",
    )
    percentiles: Fixed[tuple[float, float]] = Field(
        (0.1, 99.9),
        description="For scale percentiles: the two percentiles that become 0 and 1, each one of "
        f"{', '.join(f'{each:g}' for each in PERCENTILES)}.",
    )
    type: Fixed[PixelType | None] = Field(
        None, description="Pixel type; images of another type are refused. null: the type in the shards."
    )
    low: Fixed[_Numbers | None] = Field(
        None, description="Values that become 0, one per channel, instead of those that scale gives."
    )
    high: Fixed[_Numbers | None] = Field(
        None, description="Values that become 1, one per channel, instead of those that scale gives."
    )
    mean: Fixed[_Numbers | None] = Field(
        None,
        description="Mean of each channel in raw pixel values, subtracted if model.normalize is set. null: as "
        "measured in the shards.",
    )
    std: Fixed[_Numbers | None] = Field(
        None,
        description="Standard deviation of each channel in raw pixel values, the divisor if model.normalize is "
        "set. null: as measured in the shards.",
    )

    shown: Fixed[tuple[Annotated[int, Field(ge=0, lt=MOST_CHANNELS)], ...] | None] = Field(
        None,
        description="Channels, counted from 0, to display as red, green and blue. null: as recorded in the "
        "shards, by default the first three (`shards make --shown`).",
    )

    @field_validator("percentiles")
    @classmethod
    def _known(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1] or not set(value) <= set(PERCENTILES):
            raise ValueError(
                f"must be two of {', '.join(f'{each:g}' for each in PERCENTILES)}, the smaller first"
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
