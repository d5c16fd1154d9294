"""What argparse lacks for the command line: options between positional arguments, and sizes in bytes."""

import argparse
import re
from collections.abc import Sequence

_UNITS = {"": 1, **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)} | {"B": 1}


class IntermixedParser(argparse.ArgumentParser):
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


def byte_size(text: str) -> int:
    """Read a size as ``"256MB"`` (millions), ``"256MiB"`` (times 2^20) or ``"1000000"``; for argparse's `type`."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: write 256MB, 1.5GB, 512MiB or a number of bytes"
        )
    return round(float(match[1]) * _UNITS[match[2].upper()])
