"""What goes wrong, told in a sentence: a mistake in what was asked, or a fault of something else."""

import difflib
from collections.abc import Iterable
from typing import Self

from ccscale.exit_codes import FAULT, MISTAKE


class CcscaleError(Exception):
    """What ends a command of ccscale.

    Attributes
    ----------
    exit_code
        Of the process that it ends.
    teller
        The rank that is to speak of it, where all ranks raise it together; None for this rank's own.
    """

    exit_code = FAULT
    teller: int | None = None

    def told_by(self, rank: int) -> Self:
        """Return it as what all ranks raise together, and one of them tells."""
        self.teller = rank
        return self


class InputError(CcscaleError, ValueError):
    """A mistake in the config, the arguments or the data.

    Its message is one sentence that names the place and the remedy. The command line prints it without a
    traceback and exits with code 2.
    """

    exit_code = MISTAKE


class Fault(CcscaleError):
    """What went wrong through no mistake of the user: a server that cannot be reached, a loss that is no number.

    Its message is one sentence. The command line prints it without a traceback and exits with code 1.
    """


class Crash(CcscaleError):
    """What nobody foresaw, on one rank: all end by it, with a traceback."""


class BadImage(ValueError):
    """Data that are no image that can be decoded; the message says why, the same on every run."""


def check_version(place: object, version: object, known: int) -> None:
    """Refuse a file in a format that a later release made.

    Parameters
    ----------
    place
        What the sentence calls it: its path, say.
    version
        Its format's number, as it was read.
    known
        The number that this release writes, and the only one so far that it reads.

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
    """Return what an exception of another library says, or the first line of it."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the names in `known` that are near to `wrong`, or ``""``."""
    near = difflib.get_close_matches(wrong, list(known), n=3, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
