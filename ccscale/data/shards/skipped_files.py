"""Files of a source, or members of a tar, that are passed over: counted by kind, so that no loss is silent."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ccscale.data.images.extensions import extension_of
from ccscale.data.shards.keys import escaped
from ccscale.wording import agree, counted

MOST_KINDS = 40  # that are counted one by one
HIDDEN, BARE, OTHER = "hidden", "without an ending", "of other kinds"
SPECIAL, LEADING_BACK = "special", "linking to a folder around it"

_KIND = re.compile("[A-Za-z0-9_-]{1,12}")
_NONE = re.compile(r"(?!)")


@dataclass
class SkippedFiles:
    """Counts of files that are neither images nor belong to one.

    Attributes
    ----------
    known
        Matches the names of those that belong to a layout, which are not counted.
    kinds
        Kind, such as ``.txt`` or ``hidden``, to how many.
    first
        The path of the first, "" if there is none.
    """

    known: re.Pattern[str] = _NONE
    kinds: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, path: str, kind: str | None = None) -> None:
        """Count a file; its kind is by default its ending."""
        name = path.rpartition("/")[2]
        if self.known.fullmatch(name):
            return
        if kind is None:
            ending = extension_of(name).lower()
            kind = HIDDEN if name.startswith(".") else BARE if not ending else OTHER
            if kind == OTHER and _KIND.fullmatch(ending):
                kind = f".{ending}"
        if kind not in self.kinds and len(self.kinds) >= MOST_KINDS:
            kind = OTHER
        self.kinds[kind] += 1
        self.first = self.first or escaped(path)

    @classmethod
    def together(cls, parts: "Iterable[SkippedFiles]") -> "SkippedFiles":
        """Return the sum of several counts."""
        whole = cls()
        for part in parts:
            whole.join(part)
        return whole

    def join(self, other: "SkippedFiles") -> None:
        """Add other counts."""
        self.kinds += other.kinds
        self.first = self.first or other.first

    def __str__(self) -> str:
        return f"{self.tell('file')}, the first {self.first}"

    def tell(self, thing: str) -> str:
        """Say how many things, by their kinds, are passed over."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        many = self.kinds.total()
        return f"{counted(many, thing)} {agree(many, 'is', 'are')} passed over ({kinds})"
