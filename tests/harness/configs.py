"""The smallest config, and what one is refused with."""

from pathlib import Path
from typing import Any

import pytest

from ccscale.config.file import parse_config
from ccscale.errors import InputError

LEAST = {"data": {"shards": "here"}, "model": {"clusters": 10}}


def refusal(*overrides: str, settings: dict[str, Any] = LEAST) -> str:
    """Return what a config with these overrides is refused with, and check that it is one line."""
    with pytest.raises(InputError) as caught:
        parse_config(settings, overrides, place="my.yaml")
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def write_text(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
