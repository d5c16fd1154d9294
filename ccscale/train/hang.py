"""Finds a hanging rank: one that makes no progress while others wait for it."""

from collections.abc import Mapping

from ccscale.train.activity import Activity

SLOWER = 3
"""How many times longer than ever before a rank may take for something."""


class HangDetector:
    """Looks for a rank that makes no progress while others wait for it; on rank 0.

    Parameters
    ----------
    limit
        Seconds that a rank may make no progress.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: dict[int, tuple[tuple[int, bool, bool], float]] = {}

    def find(self, activities: Mapping[int, Activity], now: float) -> str | None:
        """Return a sentence about the rank that hangs.

        Parameters
        ----------
        activities
            Those of all ranks that are present.
        now
            The time in seconds by this rank's clock, by which all durations are measured.
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
    """Return whether a rank is waiting for another one that is behind."""
    return other.waiting or (other.moves > seen.moves and not other.at_work)
