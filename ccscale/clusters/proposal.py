"""A change of clusters that the data suggest. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from ccscale.array_types import Int64

Kind = Literal["birth", "merge", "split"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Proposal:
    """A birth, a merge or a split.

    Attributes
    ----------
    kind
        Which.
    ids
        The clusters concerned: those that are to be one, the one that is to be two; of a birth none.
    refs
        (m,) int64: the images that are remembered of it: those of the new cluster, or of the ones concerned.
    facts
        Figures, as JSON.
    sentence
        It in words.
    parts
        (m,) int64: of a split, which part each image goes to, the larger one first; else none.
    """

    kind: Kind
    ids: tuple[int, ...]
    refs: Int64
    facts: dict[str, Any]
    sentence: str
    parts: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
