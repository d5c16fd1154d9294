"""What a section of the config is made of: keys that are described, checked, and say when they may change."""

from enum import StrEnum
from os.path import expanduser
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class MayChange(StrEnum):
    """Whether a key may be another one at a run's next start than at its last; written into each key's type."""

    NO = "fixed under a run"
    """A step computes something else with it."""
    FREELY = "may change under a run"
    """It does not change what a step computes."""
    ROUNDING = "may change under a run, for other rounding"
    """It changes memory and rounding alone, and is told: a conversion between ZeRO stages is exact, and
    micro-batches give what the whole batch gives, but for batch norm."""
    ORIGIN = "counts at a run's beginning"
    """Where the weights came from that the first step was taken with: a fact of the run once it has a checkpoint,
    and not looked at again. A file may be moved, a network be out of reach."""


T = TypeVar("T")
Fixed = Annotated[T, Field(json_schema_extra={"may_change": MayChange.NO})]
Free = Annotated[T, Field(json_schema_extra={"may_change": MayChange.FREELY})]
Rounding = Annotated[T, Field(json_schema_extra={"may_change": MayChange.ROUNDING})]
Origin = Annotated[T, Field(json_schema_extra={"may_change": MayChange.ORIGIN})]

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PathText = Annotated[str, AfterValidator(expanduser)]
"""A path, or a URL: ``~`` in front is the home folder."""


def listed(value: Any) -> Any:
    """Take one name for a list of one."""
    if not isinstance(value, str):
        return value
    if "," in value:
        raise ValueError(
            f"write several names as a list: [{', '.join(part.strip() for part in value.split(','))}]"
        )
    return [value]


Names = Annotated[tuple[str, ...], BeforeValidator(listed)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def is_section(kind: Any) -> bool:
    """Tell whether a type of the config is a section, with keys of its own."""
    return isinstance(kind, type) and issubclass(kind, Section)
