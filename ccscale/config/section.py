"""Building blocks of config sections: keys with a description, checks, and whether they may change."""

from enum import StrEnum
from os.path import expanduser
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class MayChange(StrEnum):
    """Whether a key may differ when a run is resumed; part of the type of each key."""

    NO = "fixed once the run has begun"
    """It changes what a step computes."""
    FREELY = "may change on resume"
    """It does not change what a step computes."""
    ROUNDING = "may change on resume, affects rounding"
    """It changes memory and rounding only, and is reported: conversion between ZeRO stages is exact, and
    micro-batches give the result of the whole batch, except for batch norm."""
    ORIGIN = "used only when the run begins"
    """The source of the initial weights. It is not used again once the run has a checkpoint, so a file may be
    moved, or a network be unreachable."""


T = TypeVar("T")
Fixed = Annotated[T, Field(json_schema_extra={"may_change": MayChange.NO})]
Free = Annotated[T, Field(json_schema_extra={"may_change": MayChange.FREELY})]
Rounding = Annotated[T, Field(json_schema_extra={"may_change": MayChange.ROUNDING})]
Origin = Annotated[T, Field(json_schema_extra={"may_change": MayChange.ORIGIN})]

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PathText = Annotated[str, AfterValidator(expanduser)]
"""A path or URL; a leading ``~`` is the home folder."""


def listed(value: Any) -> Any:
    """Turn a single name into a list of one."""
    if not isinstance(value, str):
        return value
    if "," in value:
        raise ValueError(
            f"write several names as a list: [{', '.join(part.strip() for part in value.split(','))}]"
        )
    return [value]


Names = Annotated[tuple[str, ...], BeforeValidator(listed)]


class Section(BaseModel):
    """A section of the config: unknown keys are refused, values are validated, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def is_section(kind: Any) -> bool:
    """Whether a type is a config section."""
    return isinstance(kind, type) and issubclass(kind, Section)
