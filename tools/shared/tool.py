"""What every tool does: a command line that takes its head as help, and errors told as sentences."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from ccscale.cli.parser import IntermixedParser
from ccscale.errors import Fault, InputError
from ccscale.exit_codes import FAULT, MISTAKE


def parser(head: str | None, as_json: bool = True) -> IntermixedParser:
    """Return a parser, with the option --json unless what is told is told as it is found."""
    made = IntermixedParser(
        description=head, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if as_json:
        add_json(made)
    return made


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def exit_code(call: Callable[[], int]) -> int:
    """Call, and return the exit code; a mistake or a fault is told."""
    try:
        return call()
    except (InputError, Fault) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE if isinstance(error, InputError) else FAULT


def tell(found: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print what was found, as JSON or for people."""
    print(json.dumps(found)) if as_json else show(found)
