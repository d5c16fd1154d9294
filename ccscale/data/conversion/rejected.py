"""Images that are left out because they cannot be used: ``rejected.csv``."""

import csv
import os
from typing import NamedTuple

from ccscale.data.conversion.reading import NotNow
from ccscale.data.sources.items import Item
from ccscale.errors import BadImage
from ccscale.spreadsheet import text_of

REJECTED = "rejected.csv"


class Rejected(NamedTuple):
    """An image that is left out because it cannot be read or decoded.

    Attributes
    ----------
    split, key, origin
        Its own.
    reason
        Why.
    temporary
        "yes" where that may pass: the same command tries it again.
    """

    split: str
    key: str
    origin: str
    reason: str
    temporary: str = ""

    @classmethod
    def of(cls, split: str, item: Item, error: BadImage) -> "Rejected":
        """Return the rejection for an exception of reading or decoding."""
        return cls(split, item.key, item.origin, str(error), "yes" if isinstance(error, NotNow) else "")


def listed_as_rejected(out: str) -> list[Rejected]:
    """Return the images that a finished conversion rejected; [] if the list cannot be read."""
    try:
        with open(os.path.join(out, REJECTED), newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [Rejected(*(text_of(line.get(name) or "") for name in Rejected._fields)) for line in lines]
    except (OSError, ValueError, csv.Error):
        return []
