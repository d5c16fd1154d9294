"""What was found out about a machine."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["good", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes
    ----------
    what
        Its name, as ``DeepSpeed``.
    state
        good; note: training goes, and something is to be known; wrong: it does not.
    says
        What was found, in words.
    remedy
        What to do about it.
    """

    what: str
    state: State
    says: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def tried(what: str, call: Callable[[], list[Finding]], remedy: str) -> list[Finding]:
    """Return what a check finds; that it is wrong, where it cannot even be tried."""
    try:
        return call()
    except Exception as error:
        return [Finding(what, "wrong", f"{type(error).__name__}: {error}", remedy)]
