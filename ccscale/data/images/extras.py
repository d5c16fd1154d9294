"""Packages that some formats of images need, each brought by an extra."""

import functools
import importlib
from typing import Any

from ccscale.errors import BadImage


@functools.cache
def found(module: str) -> Any | None:
    """Return a module; None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def needed(module: str, what: str, extra: str) -> Any:
    """Return a module.

    Raises
    ------
    BadImage
        If it is not installed, with the extra that brings it.
    """
    if (there := found(module)) is None:
        raise BadImage(f"it is {what}, which needs another package: run `pip install 'ccscale[{extra}]'`")
    return there
