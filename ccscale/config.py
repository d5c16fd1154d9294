"""The config of a run: its models, YAML, ``key=value`` overrides and the JSON schema.

A config is a YAML file with the sections below. Every key is documented and checked here and nowhere else; an
unknown key is refused with the nearest known one. Later settings win: defaults, then the file, then the
overrides in the order given.

    shards: DIR            data:     where the images come from, the order they are read in
    run: DIR               views:    what a random view of an image is
    seed: 0                model:    backbone and heads
                           loss:     temperatures
                           train:    batch, epochs, optimizer, precision, checkpoints, logs
                           evaluate: when and on what
"""

import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ccscale.errors import InputError, nearest

MAX_LANES = 64

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where the images come from and the order they are read in."""

    shards: str = Field(description="Folder (or fsspec URL) with shards and their dataset.json.")
    splits: tuple[str, ...] = Field(("train",), min_length=1, description="Splits to train on, together.")
    workers: Count | None = Field(
        None, description="Loader processes per rank; by default up to 8, as the rank's cores allow."
    )
    prefetch: Positive = Field(2, description="Batches that each worker holds ready.")
    lanes: Positive | None = Field(
        None,
        description="Parallel streams that a global batch is put together from. Every number of ranks to be "
        f"used must divide it. By default the largest divisor of the global batch up to {MAX_LANES}.",
    )
    piece: Positive | None = Field(
        None,
        description="Samples in the pieces that an epoch permutes; by default one in small local data, a "
        "whole shard where there are many shards.",
    )
    block: Positive = Field(1024, description="Samples that a lane shuffles among each other.")
    max_bad_samples: Count = Field(
        100, description="Images that cannot be decoded are skipped by name, up to this many in a run."
    )


class Views(Section):
    """What a random view of an image is (paper, section 'Data augmentation'; torchvision's definitions)."""

    size: Positive = Field(224, description="Side of a view, in pixels.")
    crop_scale: tuple[float, float] | None = Field(
        (0.08, 1.0),
        description="RandomResizedCrop: share of the image's area; null: the whole image, resized.",
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="RandomResizedCrop: width to height of the crop."
    )
    flip: Probability = Field(0.5, description="Probability of a horizontal flip.")
    rotate: float = Field(0.0, ge=0, le=180, description="RandomAffine: up to this many degrees either way.")
    translate: Probability = Field(0.0, description="RandomAffine: shift of up to this share of the side.")
    zoom: tuple[float, float] = Field((1.0, 1.0), description="RandomAffine: range of the scale.")
    jitter: Probability = Field(0.8, description="Probability of the colour jitter.")
    strength: float = Field(0.5, ge=0, le=2, description="The s that multiplies the four jitter ranges.")
    brightness: float = Field(0.8, ge=0, description="ColorJitter's brightness, before the strength.")
    contrast: float = Field(0.8, ge=0, description="ColorJitter's contrast, before the strength.")
    saturation: float = Field(0.8, ge=0, description="ColorJitter's saturation, before the strength.")
    hue: float = Field(0.2, ge=0, le=0.5, description="ColorJitter's hue, before the strength.")
    grey: Probability = Field(0.2, description="Probability of the conversion to grey.")
    blur: Probability = Field(0.0, description="Probability of the Gaussian blur.")
    blur_kernel: Positive = Field(23, description="Side of the blur's kernel in pixels, an odd number.")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of the blur's sigma in pixels.")
    scaled_decode: bool = Field(
        True, description="Decode a JPEG at the smallest DCT scale that serves both crops: faster."
    )

    @field_validator("crop_scale", "crop_ratio", "zoom", "blur_sigma")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("must be two numbers above 0, the smaller one first")
        return value

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd; {value + 1} is the next")
        return value

    @model_validator(mode="after")
    def _ranges(self) -> "Views":
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError("crop_scale is a share of the image's area: at most 1")
        if self.hue * self.strength > 0.5:
            raise ValueError(f"hue * strength is {self.hue * self.strength:g}, and may be at most 0.5")
        if self.blur > 0 and self.blur_kernel // 2 >= self.size:
            raise ValueError(
                f"blur_kernel {self.blur_kernel} is too large for size {self.size}: "
                f"at most {2 * self.size - 1} (about a tenth of the size is usual)"
            )
        return self


class Model(Section):
    """Backbone and heads."""

    backbone: str = Field("resnet34", description="Any timm model name.")
    pretrained: bool = Field(False, description="Start from timm's pretrained weights.")
    weights: str | None = Field(
        None, description="A .safetensors file with the backbone's weights to start from."
    )
    stem: Literal["standard", "small"] = Field(
        "standard",
        description="small: first convolution 3x3 with stride 1 and no pooling, for images under 96 pixels.",
    )
    normalize: bool = Field(
        False, description="Subtract the backbone's own mean and divide by its deviation (pretrained ones)."
    )
    clusters: int = Field(ge=2, description="K, the number of clusters.")
    embedding: Positive = Field(128, description="Width of the instance head's output.")


class Loss(Section):
    """Temperatures of the two losses (paper, section 'Implementation details')."""

    instance_temperature: float = Field(0.5, gt=0, description="Temperature of the instance loss.")
    cluster_temperature: float = Field(1.0, gt=0, description="Temperature of the cluster loss.")


class Train(Section):
    """Batch, epochs, optimizer, precision, checkpoints and logs."""

    global_batch: int = Field(256, ge=2, description="Images in a step, over all ranks.")
    epochs: Positive = Field(1000, description="Passes over the data.")
    max_steps: Positive | None = Field(None, description="Stop after this many steps, whatever the epochs.")
    lr: float = Field(3e-4, gt=0, description="Adam's learning rate, constant.")
    weight_decay: float = Field(0.0, ge=0, description="Adam's weight decay (L2).")
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; null: not clipped.")
    precision: Literal["fp32", "bf16", "fp64"] = Field(
        "fp32",
        description="bf16: autocast over float32 weights, losses in float32. fp64: for checks on a CPU, "
        "needs zero 1 or 2.",
    )
    zero: Literal[0, 1, 2] = Field(0, description="DeepSpeed's ZeRO stage.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one.")
    save_every: Positive = Field(1000, description="Steps between checkpoints; the last step is saved too.")
    keep_last: Positive = Field(2, description="Checkpoints that are kept.")
    log_every: Positive = Field(10, description="Steps between flushes of metrics.jsonl; a line is a step.")


class Evaluate(Section):
    """When and on what the clusters are measured."""

    every: Count = Field(0, description="Epochs between evaluations while training; 0: only at the end.")
    splits: tuple[str, ...] | None = Field(None, description="By default the splits trained on.")
    batch: Positive = Field(256, description="Images a rank takes at a time.")


class Config(Section):
    """All settings of a run."""

    run: str | None = Field(None, description="The run's folder: all that a resume needs.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of weights, order and views.")
    data: Data
    views: Views = Views()
    model: Model
    loss: Loss = Loss()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _lanes(self) -> "Config":
        lanes, batch = self.data.lanes, self.train.global_batch
        if lanes is not None and batch % lanes:
            raise ValueError(
                f"data.lanes {lanes} does not divide train.global_batch {batch}; the nearest that do are "
                + " and ".join(map(str, nearest_divisors(batch, lanes)))
            )
        if self.train.precision == "fp64" and self.train.zero == 0:
            raise ValueError(
                "train.precision fp64 needs train.zero 1 or 2: DeepSpeed's ZeRO 0 refuses float64"
            )
        return self

    @property
    def lanes(self) -> int:
        """Number of lanes: follows from the config alone, never from the number of ranks."""
        return self.data.lanes or largest_divisor(self.train.global_batch, MAX_LANES)

    @property
    def run_folder(self) -> Path:
        """The run's folder.

        Raises
        ------
        InputError
            If the config has none.
        """
        if self.run is None:
            raise InputError("the config has no key 'run': add run=DIR, the folder that this run is kept in")
        return Path(self.run)

    def to_yaml(self) -> str:
        """Return the resolved config as YAML that `load_config` reads to the same config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, rising."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`."""
    return max(d for d in divisors(number) if d <= limit)


def nearest_divisors(number: int, wanted: int) -> list[int]:
    """Return the divisors of `number` next below and above `wanted`: one where there is no other."""
    known = divisors(number)
    below = [d for d in known if d <= wanted][-1:]
    above = [d for d in known if d >= wanted][:1]
    return sorted({*below, *above})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    Parameters
    ----------
    path
        A YAML file.
    overrides
        ``section.key=value``; the value is read as YAML (``model.clusters=10``, ``train.clip=null``).

    Raises
    ------
    InputError
        One sentence with the place and the remedy.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no config file {path}; configs/ holds examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the config file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {_one_line(error)}") from None
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold sections with keys, as 'train:' and 'lr: 0.001' below it")
    return parse_config(settings, overrides, place=str(path))


def parse_config(settings: dict[str, Any], overrides: Sequence[str] = (), place: str = "config") -> Config:
    """Check `settings` (nested, as YAML gives them) with `overrides` applied; see `load_config`."""
    settings = _copy(settings)
    for override in overrides:
        _apply(settings, override)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise InputError(_sentence(error, place)) from None


def describe_keys() -> list[tuple[str, str, str, str]]:
    """Return (key, type, default, description) of every key of the config, in the order of the sections."""
    rows = []

    def visit(section: Any, prefix: str) -> None:
        for name, field in section.model_fields.items():
            if _is_section(field.annotation):
                visit(field.annotation, f"{prefix}{name}.")
                continue
            default = (
                "(required)"
                if field.is_required()
                else yaml.safe_dump(
                    field.default if not isinstance(field.default, tuple) else list(field.default),
                    default_flow_style=True,
                ).split("\n")[0]
            )
            rows.append((prefix + name, _type_name(field.annotation), default, field.description or ""))

    visit(Config, "")
    return rows


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        names = [_type_name(a) for a in arguments if a is not ...]
        return f"list of {names[0]}" if ... in arguments else f"[{', '.join(names)}]"
    if arguments:
        return " or ".join(_type_name(a) for a in arguments)
    return "null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _copy(settings: dict[Any, Any]) -> dict[str, Any]:
    """Copy sections; one with nothing below it (all keys commented out) is an empty one."""
    copy: dict[str, Any] = {}
    for key, value in settings.items():
        section = str(key) in Config.model_fields and _is_section(Config.model_fields[str(key)].annotation)
        value = {} if section and value is None else value
        copy[str(key)] = _copy(value) if isinstance(value, dict) else value
    return copy


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", key):
        raise InputError(f"{override!r} is not an override; write key=value, as in train.lr=0.001")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"the value in '{override}' is not valid YAML: {_one_line(error)}") from None
    *sections, name = key.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"'{override}': {section} is a value, it has no keys below it")
        settings = inner
    settings[name] = value


def _sentence(error: ValidationError, place: str) -> str:
    """Put the first problem that pydantic found into one sentence; say how many more there are."""
    problems = error.errors()
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    known = [row[0] for row in describe_keys()]
    if first["type"] == "extra_forbidden":
        last = where.rsplit(".", 1)[-1]
        same_name = [key for key in known if key.rsplit(".", 1)[-1] == last]
        hint = (
            f"; did you mean {same_name[0]!r}?"
            if same_name
            else nearest(where, {*known, *Config.model_fields})
        )
        text = f"there is no key '{where}'{hint or '; `ccscale config` lists the keys'}"
    elif first["type"] == "missing":
        where = next(key for key in known if key == where or key.startswith(f"{where}."))
        text = f"the key '{where}' is missing; add it to the file or as {where}=VALUE"
    elif first["type"] == "value_error" and not where:
        text = str(first["ctx"]["error"])
    else:
        reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        reason = reason[0].lower() + reason[1:]
        text = f"'{where}' is {_short(first['input'])}: {reason}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {text}{more}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
