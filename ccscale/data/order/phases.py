"""The phases of an epoch, one after the other, each with its own `schedule.py`. Pure functions.

::

    step     0   1   2   3   4   5   6   7   8   9  10  11  12  ...
    epoch    |..... 0 .....................|..... 1 ............
    phase    |..... 0 .........|. 1 .......|..... 0 .........|..
    turn     |..... 0 .........|. 1 .......|..... 2 .........|..
    position 0   1   2   3   4   0   1   2   0   1   2   3   4

A *turn* is one phase in one epoch, turn = epoch x phases + phase. Schedules and views use it instead of the
epoch, so that every turn has its own random numbers; with one phase it equals the epoch. Samples that do not fill
a batch of their phase are dropped: no batch mixes samples of two phases.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from ccscale.data.order.schedule import EpochOrder, Schedule


class Turn(NamedTuple):
    """Where a step lies."""

    number: int
    """One phase in one epoch, counted through all epochs."""
    phase: int
    """Which of the phases, from 0."""
    position: int
    """The step within the turn, from 0."""


@dataclass(frozen=True)
class PhasedSchedule:
    """The order of all epochs of some phases.

    Parameters
    ----------
    phases
        The schedule of each; seed, global batch and lanes are the same.

    Raises
    ------
    ValueError
        If there is none, or they differ in these.
    """

    phases: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        if len({(phase.seed, phase.global_batch, phase.lanes) for phase in self.phases}) != 1:
            raise ValueError("the phases must have one seed, global batch and number of lanes")

    @classmethod
    def single(cls, schedule: Schedule) -> "PhasedSchedule":
        """Return the schedule of epochs that have one phase."""
        return cls((schedule,))

    @property
    def seed(self) -> int:
        """Of all phases."""
        return self.phases[0].seed

    @property
    def global_batch(self) -> int:
        """Images in a step, over all ranks."""
        return self.phases[0].global_batch

    @property
    def lanes(self) -> int:
        """Of all phases."""
        return self.phases[0].lanes

    @property
    def share(self) -> int:
        """Samples that each lane gives to a global batch."""
        return self.phases[0].share

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch."""
        return sum(phase.steps_per_epoch for phase in self.phases)

    def locate(self, step: int) -> Turn:
        """Return where a step lies that is counted from 0 through all epochs."""
        epoch, rest = divmod(step, self.steps_per_epoch)
        ends = list(accumulate(phase.steps_per_epoch for phase in self.phases))
        phase = bisect_right(ends, rest)
        begin = ends[phase] - self.phases[phase].steps_per_epoch
        return Turn(epoch * len(self.phases) + phase, phase, rest - begin)

    def left(self, step: int) -> int:
        """Return how many steps its turn has from a step on, this one among them."""
        turn = self.locate(step)
        return self.phases[turn.phase].steps_per_epoch - turn.position

    def end_of(self, epochs: int) -> int:
        """Return how many steps so many epochs have."""
        return epochs * self.steps_per_epoch

    def order(self, turn: int) -> EpochOrder:
        """Return the order of a turn, by its number."""
        return self.phases[turn % len(self.phases)].epoch(turn)
