"""A config from a YAML file and ``key=value`` overrides, and its keys told to people.

Later settings win: defaults, then the file, then the overrides in the order given. An unknown key is refused with
the nearest known one.
"""

import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from ccscale.config import Config
from ccscale.errors import InputError, nearest


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
