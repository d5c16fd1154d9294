"""What argparse lacks: suggestions for a wrong word, options between positional arguments, verbs loaded lazily."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from ccscale.errors import InputError, did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser that tells what is near to a wrong command or choice."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        hint = did_you_mean(str(value), map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            raise InputError(
                f"there is no command '{self.prog} {value}'{hint or f'; `{self.prog} --help` lists them'}"
            )
        raise argparse.ArgumentError(
            action, f"{value!r} is not one of {', '.join(map(str, action.choices))}{hint}"
        )


class HelpFormatter(argparse.HelpFormatter):
    """Folds a description, and leaves examples as they are written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class IntermixedParser(Parser):
    """A parser, also of a sub-command, that takes positional arguments before, between and after options.

    Of one that has sub-commands itself, these take them.
    """

    _within = False
    _fill: Callable[[], None] | None = None

    def fill_by(self, fill: Callable[[], None]) -> None:
        """Let `fill` add the arguments once they are needed: the other verbs' code is not even imported."""
        self._fill = fill

    def fill(self) -> None:
        """Add the arguments, if that is still to be done."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; this is also what a sub-command's parser is called by, and what the intermixed one calls."""
        self.fill()
        if self._within or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


class ShowVersion(argparse.Action):
    """What ``--version`` does: the package's own, looked up only when it is requested."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        """Print it and exit."""
        from importlib.metadata import version

        print(f"ccscale {version('ccscale')}")
        parser.exit()
