"""Errors with a one-sentence message: mistakes in the request, and faults of anything else."""

import difflib
from collections.abc import Iterable
from typing import Self

from ccscale.exit_codes import FAULT, MISTAKE


class CcscaleError(Exception):
    """Base of the errors that end a ccscale command.

    Attributes
    ----------
    exit_code
        Exit code of the process.
    teller
        The rank that prints it if all ranks raise it together; None if it is this rank's own.
    """

    exit_code = FAULT
    teller: int | None = None

    def told_by(self, rank: int) -> Self:
        """Mark it as raised by all ranks together and printed by one of them."""
        self.teller = rank
        return self


class InputError(CcscaleError, ValueError):
    """A mistake in the config, the arguments or the data.

    Its message is one sentence that says where the mistake is and what to do. The command line prints it without a
    traceback and exits with code 2.
    """

    exit_code = MISTAKE


class Fault(CcscaleError):
    """A failure that is not the user's mistake, such as an unreachable server or a loss that is not finite.

    Its message is one sentence. The command line prints it without a traceback and exits with code 1.
    """


class Crash(CcscaleError):
    """An unexpected error on one rank; all ranks exit, with a traceback."""


class BadImage(ValueError):
    """Data that cannot be decoded as an image; the message gives the reason, the same in every run."""


def check_version(place: object, version: object, known: int) -> None:
    """Refuse a file with a format version of a later release.

    Parameters
    ----------
    place
        Name of the file in the error, such as its path.
    version
        Format version in the file.
    known
        The only version that this release reads and writes.

    Raises
    ------
    InputError
        If they differ.
    """
    if version != known:
        raise InputError(
            f"{place} has version {version!r} and this ccscale reads version {known}: upgrade ccscale"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of the message of another library's exception."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the names in `known` most similar to `wrong`, or ``""``."""
    near = difflib.get_close_matches(wrong, list(known), n=3, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
