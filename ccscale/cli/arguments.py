"""What argparse lacks for the command line: options between positional arguments, and types of arguments."""

import argparse
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from ccscale.errors import InputError, nearest

_UNITS = {"": 1, **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)} | {"B": 1}


class Parser(argparse.ArgumentParser):
    """A parser that tells what is near to a wrong command or choice."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        hint = nearest(str(value), map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            raise InputError(
                f"there is no command '{self.prog} {value}'{hint or f'; `{self.prog} --help` lists them'}"
            )
        raise argparse.ArgumentError(
            action, f"{value!r} is none of {', '.join(map(str, action.choices))}{hint}"
        )


class IntermixedParser(Parser):
    """A parser, also of a sub-command, that takes positional arguments before, between and after options.

    Of one that has sub-commands itself, these take them.
    """

    _within = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; this is also what a sub-command's parser is called by, and what the intermixed one calls."""
        if self._within or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the settings that go over a config's own."""
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],  # else argparse calls them required
        help="settings over those of the file, as train.lr=0.001",
    )


def path(text: str) -> str:
    """Read a path, or a URL; ``~`` in front is the home folder. For argparse's `type`, as all below."""
    return os.path.expanduser(text)


def number(text: str) -> int:
    """Read a number of things, which may be 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return int(text)


def count(text: str) -> int:
    """Read a number of things, at least 1."""
    if (found := number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return found


def amount(text: str) -> float:
    """Read a number from 0, with a fraction or without."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return found


def byte_size(text: str) -> int:
    """Read a size as ``"256MB"`` (millions), ``"256MiB"`` (times 2^20) or ``"1000000"``."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: write 256MB, 1.5GB, 512MiB or a number of bytes"
        )
    return round(float(match[1]) * _UNITS[match[2].upper()])
