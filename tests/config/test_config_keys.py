"""Every key is described, says whether it may change under a run, and is in the schema."""

import json
import re
from typing import Any

import yaml
from harness.configs import LEAST

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.config.keys import describe_keys
from ccscale.config.section import MayChange


def test_every_key_of_a_folder_or_file_knows_home(monkeypatch):
    """A key that is described as one takes ``~``."""
    monkeypatch.setenv("HOME", "/home/me")
    keys = [
        key
        for key, kind, *_, about in describe_keys()
        if "str" in kind and re.search(r"[Ff]older|file\b", about)
    ]
    assert {"run", "data.shards", "data.cache", "model.weights"} <= set(keys)
    for key in keys:
        resolved = yaml.safe_load(parse_config(LEAST, [f"{key}=~/x"]).to_yaml())
        for name in key.split("."):
            resolved = resolved[name]
        assert resolved == "/home/me/x", key


def test_resolved_yaml_has_every_key():
    resolved = yaml.safe_load(parse_config(LEAST).to_yaml())

    def flat(section: dict[str, Any], prefix: str = "") -> set[str]:
        inner = {name: value for name, value in section.items() if isinstance(value, dict)}
        own = {f"{prefix}{name}" for name in section.keys() - inner.keys()}
        return own.union(*(flat(value, f"{prefix}{name}.") for name, value in inner.items()))

    assert flat(resolved) == {row[0] for row in describe_keys()}


def test_every_key_is_described():
    def leaves(section: type[Any], prefix: str = "") -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            inner = field.annotation
            is_section = isinstance(inner, type) and hasattr(inner, "model_fields")
            found += leaves(inner, f"{prefix}{name}.") if is_section else [prefix + name]
        return found

    rows = describe_keys()
    assert [row[0] for row in rows] == leaves(Config)
    for key, kind, default, may_change, description in rows:
        assert isinstance(may_change, MayChange), key  # every key has said it
        assert description.endswith("."), key
        assert kind, key
        assert default, key
        assert "\n" not in kind + default + description
    table = {row[0]: row[1:3] for row in rows}
    assert table["model.clusters"] == ("int or list of int", "(required)")
    assert table["data.splits"] == ("list of str", "[train]")
    assert table["views.crop_scale"] == ("[float, float] or null", "[0.08, 1.0]")
    assert table["train.zero"] == ("0 or 1 or 2", "0")
    assert table["train.clip"] == ("float or null", "null")


def test_described_defaults_are_the_defaults():
    """Every default, given as an override in the words of the list of keys, changes nothing."""
    given = ("(required)", "data.shards")
    overrides = [
        f"{key}={default}" for key, _, default, *_ in describe_keys() if not {key, default} & {*given}
    ]
    assert len(overrides) > 30
    assert parse_config(LEAST, overrides) == parse_config(LEAST)


def test_json_schema():
    schema = json.loads(json.dumps(Config.model_json_schema()))
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["$defs"]["Train"]["properties"]["lr"]["exclusiveMinimum"] == 0
    for name, definition in schema["$defs"].items():
        for key, entry in definition["properties"].items():
            assert entry.get("description"), f"{name}.{key}"
