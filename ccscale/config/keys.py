"""The keys of the config, described for users."""

import typing
from typing import Annotated, Any, Literal, NamedTuple

import yaml

from ccscale.config.root import Config
from ccscale.config.section import MayChange, is_section


class Key(NamedTuple):
    """A key of the config."""

    name: str
    """Including its section: ``train.lr``."""
    kind: str
    """Its type, as text."""
    default: str
    """As YAML; "(required)" if there is none."""
    may_change: MayChange
    description: str


def describe_keys() -> list[Key]:
    """Return every key of the config, in the order of the sections."""
    keys = []

    def visit(section: Any, prefix: str) -> None:
        for name, field in section.model_fields.items():
            if is_section(field.annotation):
                visit(field.annotation, f"{prefix}{name}.")
                continue
            default = "(required)" if field.is_required() else _as_yaml(field.default)
            may_change, description = field.json_schema_extra["may_change"], field.description or ""
            keys.append(Key(prefix + name, _type_name(field.annotation), default, may_change, description))

    visit(Config, "")
    return keys


def _as_yaml(default: Any) -> str:
    value = list(default) if isinstance(default, tuple) else default
    return yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


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
