"""Finds a hanging rank: one that makes no progress while others wait for it."""

from collections.abc import Mapping

from ccscale.train.activity import Activity

SLOWER = 3
"""A rank may take so many times as long for something as it ever has."""


class HangDetector:
    """Looks for a rank that stands still while others wait for it; on rank 0.

    Parameters
    ----------
    limit
        Seconds that a rank may stand still.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: dict[int, tuple[tuple[int, bool, bool], float]] = {}

    def find(self, activities: Mapping[int, Activity], now: float) -> str | None:
        """Return a sentence about the rank that hangs.

        Parameters
        ----------
        activities
            Of all ranks that are there.
        now
            The time, in seconds, by this rank's clock: how long each stands where it is is measured by that.
        """
        still = {}
        for rank, seen in activities.items():
            place = (seen.moves, seen.at_work, seen.waiting)
            before, since = self._seen.get(rank, (None, now))
            if before != place:
                self._seen[rank] = (place, now)
            else:
                still[rank] = now - since
        long = {rank: seconds for rank, seconds in still.items() if seconds > self._limit}
        # The one that all others wait for has come least far.
        for rank in sorted(long, key=lambda rank: (activities[rank].moves, rank)):
            seen = activities[rank]
            if seen.at_work or seen.waiting or long[rank] <= SLOWER * seen.longest:
                continue
            if any(_is_idle(activities[other], seen) for other in long if other != rank):
                return (
                    f"rank {rank} on {seen.host} hangs: it has stood for {long[rank]:.0f} s at {seen}, and others "
                    "wait for it"
                )
        return None


def _is_idle(other: Activity, seen: Activity) -> bool:
    """Return whether a rank that stands still does so because of one that has come no further."""
    return other.waiting or (other.moves > seen.moves and not other.at_work)
