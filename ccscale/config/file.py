"""Reads a config from a YAML file and ``key=value`` overrides.

Later settings win: defaults, then the file, then the overrides in the order given. An error for an unknown key
names the nearest known one; an error in an override names the override.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ccscale.config import Config
from ccscale.config.keys import describe_keys
from ccscale.config.recipes import find_recipe, recipes
from ccscale.config.section import is_section
from ccscale.config.text import read_value, read_yaml
from ccscale.errors import InputError, did_you_mean

# Keys of earlier releases: the value with which one said nothing, and what to do where it had another.
GONE = {
    "data.allow_pipe": (
        False,
        "no command is run from data: name the shards by their URLs in the manifest, which fsspec reads",
    )
}

_NO_LIST = "input should be a list, as [a, b]"


def load_config(path: str | Path, overrides: Sequence[str] = (), *, of_a_run: bool = False) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    Parameters
    ----------
    path : str or Path
        A YAML file or, if there is no such file, the name of a recipe that comes with the package.
    overrides : sequence of str, default ()
        ``section.key=value``; the value is read as YAML (``model.clusters=10``, ``train.clip=null``), a text as it
        stands.
    of_a_run : bool, default False
        The config was saved with a run, perhaps by an earlier release: ignore keys that have been removed since.

    Returns
    -------
    Config
        The validated config, with all defaults filled in.

    Raises
    ------
    InputError
        If the config is invalid; the message says where and what to do.
    """
    text, place = _read(path)
    settings = read_yaml(text, Config, place)
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise InputError(
            f"{place} must contain sections with keys, such as 'train:' with 'lr: 0.001' below it"
        )
    return parse_config(settings, overrides, place, of_a_run=of_a_run)


def _read(path: str | Path) -> tuple[str, str]:
    """Return the text of a config, and what it is called in errors."""
    file = Path(path)
    try:
        return file.read_text(encoding="utf-8"), str(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if (recipe := find_recipe(str(path))) is not None:
            return recipe.read_text(encoding="utf-8"), f"recipe {path}"
        if isinstance(error, IsADirectoryError):
            inner = file / "config.yaml"
            hint = f": its config is {inner}" if inner.exists() else ""
            raise InputError(f"the config file {path} cannot be read: it is a folder{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the config file {path} cannot be read: {error}") from None
    known = recipes()
    hint = (
        f"; did you mean the recipe {file.stem!r}?" if file.stem in known else did_you_mean(file.stem, known)
    )
    hint = hint or "; `ccscale config --recipes` lists those that come with ccscale"
    raise InputError(f"there is no config file {path}{hint}")


def parse_config(
    settings: dict[str, Any], overrides: Sequence[str] = (), place: str = "config", *, of_a_run: bool = False
) -> Config:
    """Check `settings` (nested, as YAML gives them) with `overrides` applied; see `load_config`."""
    settings = _copy(settings)
    said = dict(_apply(settings, override) for override in overrides)
    for key, (nothing, remedy) in GONE.items():
        section, _, name = key.partition(".")
        inner = settings.get(section)
        if isinstance(inner, dict) and inner.pop(name, nothing) != nothing and not of_a_run:
            raise InputError(f"{_blame(key, key, place, said)}: the key '{key}' was removed: {remedy}")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise InputError(_sentence(error, place, said)) from None


def _copy(settings: dict[Any, Any]) -> dict[str, Any]:
    """Copy sections; one with nothing below it (all keys commented out) is an empty one."""
    copy: dict[str, Any] = {}
    for key, value in settings.items():
        section = str(key) in Config.model_fields and is_section(Config.model_fields[str(key)].annotation)
        value = {} if section and value is None else value
        copy[str(key)] = _copy(value) if isinstance(value, dict) else value
    return copy


def _apply(settings: dict[str, Any], override: str) -> tuple[str, str]:
    """Set what an override says; return its key and itself."""
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", key):
        raise InputError(f"{override!r} is not an override; write key=value, as in train.lr=0.001")
    kind: Any = Config
    *sections, name = key.split(".")
    for section in sections:
        kind = _kind(kind, section)
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"override {_short(override)}: {section} is a value and has no keys below it")
        settings = inner
    settings[name] = read_value(text, _kind(kind, name), f"the value in {_short(override)}")
    return key, override


def _kind(section: Any, name: str) -> Any:
    """Return the type of a key, None for one that is not known."""
    field = section.model_fields.get(name) if is_section(section) else None
    return None if field is None else field.annotation


def _sentence(error: ValidationError, place: str, said: Mapping[str, str]) -> str:
    """Put the first problem that pydantic found into one sentence; say how many more there are."""
    problems = error.errors()
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    known = [key.name for key in describe_keys()]
    if first["type"] == "extra_forbidden":
        last = where.rsplit(".", 1)[-1]
        same_name = [key for key in known if key.rsplit(".", 1)[-1] == last]
        hint = (
            f"; did you mean {same_name[0]!r}?"
            if same_name
            else did_you_mean(where, {*known, *Config.model_fields})
        )
        text = f"there is no key '{where}'{hint or '; `ccscale config` lists the keys'}"
    elif first["type"] == "missing":
        where = next(key for key in known if key == where or key.startswith(f"{where}."))
        text = f"the key '{where}' is missing; add it to the file or as {where}=VALUE"
    elif first["type"] == "value_error" and not where:
        text = str(first["ctx"]["error"])
    else:
        reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        reason = _NO_LIST if first["type"] == "tuple_type" else reason[0].lower() + reason[1:]
        between = where in Config.model_fields and isinstance(first["input"], dict)
        text = f"in '{where}', {reason}" if between else f"'{where}' is {_short(first['input'])}: {reason}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{_blame(where, text, place, said)}: {text}{more}"


def _blame(where: str, problem: str, place: str, said: Mapping[str, str]) -> str:
    """Name what is wrong: the overrides that set the key, else the file.

    A problem between keys is told of their section (or of none), and names them: these, where they were overridden.
    """
    exact = [override for key, override in said.items() if key == where or where.startswith(f"{key}.")]
    inner = {key: override for key, override in said.items() if not where or key.startswith(f"{where}.")}
    if inner and where and where not in Config.model_fields:  # an unknown section, and keys put into it
        exact = list(inner.values())
    if exact:
        return f"override {_short(exact[-1])}"
    named = [
        text for key, text in inner.items() if re.search(rf"\b{re.escape(key.rsplit('.', 1)[-1])}\b", problem)
    ]
    return f"{place} with {' and '.join(map(_short, named))}" if named else place


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 48 else text[:45] + "..."
