"""YAML as a config means it.

What stands where a key takes a text is that text, whatever else YAML 1.1 makes of it: ``run: 7``, ``run: 007`` and
``splits: [no]`` name folders and a split. A key that stands twice is refused: YAML would drop the first one in
silence, with all that it holds.
"""

import contextlib
import re
import types
import typing
from typing import Annotated, Any

import yaml

from ccscale.config.section import is_section
from ccscale.errors import InputError

_TAG = "tag:yaml.org,2002:"
_NUMBERS = {
    _TAG + "int": re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)\Z"),
    _TAG + "float": re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|\.(?:inf|Inf|INF))\Z"
        r"|\.(?:nan|NaN|NAN)\Z"
    ),
}
_AS_YAML = re.compile(r"""\s*(?:~|null|Null|NULL|'.*'|".*")?\s*""", re.DOTALL)  # none, or in quotes
_NO_TEXT = {_TAG + "int", _TAG + "float", _TAG + "bool"}


class _Loader(yaml.SafeLoader):
    """Knows no dates, no numbers in base 60 (12:30) and none that are octal because of a zero in front (010).

    No key takes a date, nor need a text that looks like one be one (2024-02-30). What is no number here is a text,
    which the config takes for the number that it spells, or refuses.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (as PyYAML has it)
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag != _TAG + "timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, where PyYAML was built with it: seven times as fast."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def read_value(text: str, kind: Any, place: str) -> Any:
    """Read what is given for a key on the command line.

    A key that takes a text, such as a folder, gets it as it stands, so that a name may hold what means something in
    YAML (``run=photos: best``, ``run=a # b``): but for one in quotes, and what means that there is none. For
    parameters and errors see `read_yaml`.
    """
    alternatives = _alternatives(kind)
    if str in alternatives and {str, type(None)}.issuperset(alternatives) and not _AS_YAML.fullmatch(text):
        return text
    return read_yaml(text, kind, place)


def read_yaml(text: str, kind: Any, place: str) -> Any:
    """Read a YAML document.

    Parameters
    ----------
    text
        The document.
    kind
        What it is to be: a section of the config, or a key's type as annotated there; it tells where texts are
        wanted.
    place
        Where it stands, for errors.

    Raises
    ------
    InputError
        If it is not valid, or holds a key twice.
    """
    try:
        # The other one shows the place of an error, and reads a little more.
        with contextlib.suppress(yaml.YAMLError, UnicodeError):
            return _read(_FastLoader(text), kind, place)
        return _read(_Loader(text), kind, place)
    except yaml.YAMLError as error:
        raise InputError(f"{place} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{place} is not valid YAML: it is nested too deeply") from None
    except InputError:
        raise
    except ValueError as error:  # a number with thousands of digits
        raise InputError(f"{place} is not valid YAML: {error}") from None


def _read(loader: Any, kind: Any, place: str) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, place, set(), set())
        _keep_texts(node, kind)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check(node: yaml.Node, place: str, around: set[int], seen: set[int]) -> None:
    """Refuse a key that stands twice, and an alias of what it stands in."""
    if id(node) in around:
        raise InputError(
            f"{place} is not valid YAML: line {node.start_mark.line + 1} contains itself through an alias"
        )
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and name != "<<":
                raise InputError(
                    f"{place}: '{name}' appears twice, in lines {lines[name]} and {line}: merge them"
                )
            lines[name] = line
        inner = [value for _, value in node.value]
    else:
        inner = node.value
    for child in inner:
        _check(child, place, around | {id(node)}, seen)


def _keep_texts(node: yaml.Node, kind: Any) -> None:
    """Mark the scalars that are wanted as texts as such."""
    for alternative in _alternatives(kind):
        if isinstance(node, yaml.MappingNode) and is_section(alternative):
            for key, value in node.value:
                if key.value == "<<":
                    _keep_texts(value, alternative)
                elif key.value in alternative.model_fields:
                    _keep_texts(value, alternative.model_fields[key.value].annotation)
        elif typing.get_origin(alternative) is tuple:
            (first, *_) = typing.get_args(alternative)
            # One name alone may stand for a list of one.
            for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
                _keep_texts(item, first)
        elif alternative is str and isinstance(node, yaml.ScalarNode) and node.tag in _NO_TEXT:
            node.tag = _TAG + "str"


def _alternatives(kind: Any) -> list[Any]:
    """Return the types that a type allows."""
    if typing.get_origin(kind) is Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [inner for part in typing.get_args(kind) for inner in _alternatives(part)]
    return [kind]
