"""Estimates the number of clusters from existing features, without labels.

Random rows are projected (`null_model.py`) and clustered by k-means for each K of `tried`, criteria measure
how well these clusters fit (`criteria.py`), and their votes give the advice (`votes.py`). If that is near the
largest K tried, larger ones are tried with more rows.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.errors import InputError
from ccscale.evaluate.criteria import measure
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.evaluate.null_model import NullModel
from ccscale.evaluate.votes import WIDE, Vote, centre, vote
from ccscale.features.store import Features
from ccscale.progress import Meter
from ccscale.wording import counted

EACH = 20  # rows of a cluster that is tried, at least
LEAST, FIRST, MOST = 3, 64, 1024  # the largest K that is tried: at least, at first, ever
ROWS, ROWS_EACH = 4_000, 24  # rows that are examined, and of each cluster of the largest K
DRAWS = 2  # of features without clusters
ROOM = 0.7  # share of the largest K that was tried, from which on a vote asks for larger ones


@dataclass(frozen=True)
class Advice:
    """How many clusters there seem to be.

    Attributes
    ----------
    clusters
        K: where the votes meet; also where no clusters are seen.
    low, high
        The range.
    seen
        Whether the features have clusters at all.
    reason
        Why the range is wide, or no clusters are seen; empty where neither is so.
    tried
        The numbers of clusters that were tried.
    votes
        Of each criterion.
    images
        How many were examined.
    """

    clusters: int
    low: int
    high: int
    seen: bool
    reason: str
    tried: tuple[int, ...]
    votes: tuple[Vote, ...]
    images: int

    @property
    def headline(self) -> str:
        """K and the range, as a sentence."""
        if not self.seen:
            return "no clusters are seen"
        between = f"between {self.low:,} and {self.high:,}" if self.low < self.high else "all criteria agree"
        return f"about {counted(self.clusters, 'cluster')}, {between}"

    @property
    def sentence(self) -> str:
        """The advice, as a sentence."""
        return f"{self.headline}; {self.reason}" if self.reason else self.headline

    def as_json(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self) | {"sentence": self.sentence}


def advise(features: Features, seed: int = 0, show: bool = False) -> Advice:
    """Return how many clusters the images of a store seem to have.

    Parameters
    ----------
    features
        A store; the images as they are count, not their random views.
    seed
        Of all random choices.
    show
        Whether to show progress on standard error.

    Raises
    ------
    InputError
        If there are too few images.
    """
    good = np.flatnonzero(~features.bad)
    return advise_rows(
        lambda most: features.take(good[choose_rows(len(good), seed, most)]),
        len(good),
        str(features.folder),
        seed,
        show,
    )


def largest_tried(images: int, place: str) -> int:
    """Return the largest number of clusters that is tried for so many images; `place` names them in messages.

    Raises
    ------
    InputError
        If there are too few images.
    """
    largest = images // EACH
    if largest < LEAST:
        raise InputError(
            f"{place} has {counted(images, 'image')}, too few for advice on the number of clusters (at "
            f"least {LEAST * EACH}): set it with --clusters"
        )
    return largest


def tried_numbers(most: int) -> list[int]:
    """Return the numbers of clusters that are tried: each up to 16, then about eight to each doubling, or four."""
    found = [*range(2, 17), 18, 20, 22, 25, 28, 32]
    while found[-1] < most:
        found.append(round(found[-1] * 1.19))
    return [k for k in found if k <= most]


def advise_rows(
    take: Callable[[int], NDArray[np.floating]], images: int, place: str, seed: int = 0, show: bool = False
) -> Advice:
    """Return how many clusters there seem to be among images of which some features can be had.

    Parameters
    ----------
    take
        Called with a number of images, returns the features of as many, or of all; (n, D).
    images
        How many there are.
    place
        Where they are, for messages.
    seed, show
        As `advise` has them.

    Raises
    ------
    InputError
        If there are too few images.
    """
    largest = largest_tried(images, place)
    most = min(FIRST, largest)
    while True:
        projection = NullModel.of(take(max(ROWS, ROWS_EACH * most)), seed)
        tried = tried_numbers(most)
        votes = _ask(projection, tried, seed, show)
        if most == min(MOST, largest) or all(one.clusters < ROOM * most for one in votes if one.sees):
            return _join(votes, tried, len(projection.rows))
        most = min(2 * most, MOST, largest)


def _ask(projection: NullModel, tried: list[int], seed: int, show: bool) -> tuple[Vote, ...]:
    """Measure features and such without clusters, and return the votes."""
    title = f"trying 2 to {tried[-1]:,} clusters"
    with Meter(title, len(tried) * (1 + DRAWS), "numbers", show) as meter:
        found = measure(projection.rows, tried, seed, meter.advance)
        draws = [projection.draw(seed + draw) for draw in range(1, 1 + DRAWS)]
        return vote(tried, found, [measure(rows, tried, seed, meter.advance) for rows in draws])


def _join(votes: tuple[Vote, ...], tried: list[int], images: int) -> Advice:
    """Put votes together."""
    seeing = [one for one in votes if one.sees]
    seen = 2 * len(seeing) > len(votes)
    heard = seeing if seen else votes
    low, high = min(one.clusters for one in heard), max(one.clusters for one in heard)
    reason = ""
    if not seen:
        reason = (
            f"{len(seeing)} of {len(votes)} criteria tell these features from a single cloud of the same spread, "
            f"with 2 to {tried[-1]:,} clusters of {images:,} images; hundreds of small ones could be missed"
        )
    elif high > WIDE * low:
        middle = math.sqrt(low * high)
        coarse = _names(one for one in heard if one.clusters <= middle)
        fine = _names(one for one in heard if one.clusters > middle)
        reason = (
            f"the range is wide: by {coarse} there are few, large groups, by {fine} finer ones within them"
        )
    return Advice(centre(heard), low, high, seen, reason, tuple(tried), votes, images)


def _names(votes: Iterable[Vote]) -> str:
    *some, last = [one.criterion for one in votes]
    return f"{', '.join(some)} and {last}" if some else last
