"""The result of one check of a machine."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["good", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    what
        What was checked, for example ``DeepSpeed``.
    state
        good; note: training works, with a caveat; wrong: it does not work.
    says
        The result, as a sentence.
    remedy
        What to do about it; empty if nothing.
    """

    what: str
    state: State
    says: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def tried(what: str, call: Callable[[], list[Finding]], remedy: str) -> list[Finding]:
    """Return the findings of a check, or one that is wrong if the check itself fails."""
    try:
        return call()
    except Exception as error:
        return [Finding(what, "wrong", f"{type(error).__name__}: {error}", remedy)]
