"""The sample order of a run on growing data: a pure function of (intakes, seed, step).

::

    step      0   1   2   3   4   5   6   7   8   9  10  11 ...
    data      |.... 90 images ............|.... 130 images .....
    era       |.... 0 ....................|.... 1 ..............
    epoch     |.... 0 ....|.... 1 ........|.... 2 ..............

The steps between two intakes are an *era*, with one `PhasedSchedule` over the samples that the run has by then.
Epochs are counted across eras, so every turn has its own random numbers. An era starts with a new epoch: an
intake ends the current one early, so each sample is seen at most once per epoch. Samples keep their numbers:
those of new shards follow all earlier ones.

A run without intakes has one era, with exactly the order of its `PhasedSchedule`.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ccscale.data.order.phases import PhasedSchedule, Turn
from ccscale.data.order.schedule import EpochOrder


class Era(NamedTuple):
    """The steps between two intakes."""

    first: int
    """Its first step, counted from 0."""
    epoch: int
    """Epochs that were begun before it."""
    schedule: PhasedSchedule


@dataclass(frozen=True)
class GrowingSchedule:
    """The order of all epochs of a run.

    Attributes
    ----------
    eras
        In their order; the first begins with step 0.
    """

    eras: tuple[Era, ...]

    @classmethod
    def of(cls, versions: Iterable[tuple[int, PhasedSchedule]]) -> "GrowingSchedule":
        """Return the schedule of a run from the step that each version of its data holds from.

        Parameters
        ----------
        versions
            Step and schedule of each, the steps not falling; of several at one step the last one holds.
        """
        eras: list[Era] = []
        for first, schedule in versions:
            epoch = 0
            if eras:
                last = eras[-1]
                epoch = last.epoch - (last.first - first) // last.schedule.steps_per_epoch
                if first == last.first:
                    eras.pop()
            eras.append(Era(first, epoch, schedule))
        return cls(tuple(eras))

    @property
    def seed(self) -> int:
        """Of all eras."""
        return self.eras[0].schedule.seed

    @property
    def global_batch(self) -> int:
        """Images in a step, over all ranks."""
        return self.eras[0].schedule.global_batch

    @property
    def lanes(self) -> int:
        """Of all eras."""
        return self.eras[0].schedule.lanes

    @property
    def share(self) -> int:
        """Samples that each lane gives to a global batch."""
        return self.eras[0].schedule.share

    def at(self, step: int) -> Era:
        """Return the era of a step, counted from 0."""
        return self.eras[self._number(step)]

    def locate(self, step: int) -> Turn:
        """Return where a step lies that is counted from 0 through all epochs."""
        era = self.at(step)
        turn = era.schedule.locate(step - era.first)
        return turn._replace(number=turn.number + era.epoch * len(era.schedule.phases))

    def order(self, turn: int) -> EpochOrder:
        """Return the order of a turn, by its number."""
        epoch = turn // len(self.eras[0].schedule.phases)
        number = bisect_right(self.eras, epoch, key=lambda era: era.epoch) - 1
        return self.eras[number].schedule.order(turn)

    def left(self, step: int) -> int:
        """Return how many steps its turn has from a step on, this one among them."""
        number = self._number(step)
        left = self.eras[number].schedule.left(step - self.eras[number].first)
        return min([left, *(era.first - step for era in self.eras[number + 1 : number + 2])])

    def epochs_begun(self, steps: int) -> int:
        """Return how many epochs are begun in so many steps: the epoch of the last of them, counted from 1."""
        if not steps:
            return 0
        era = self.at(steps - 1)
        return era.epoch - (era.first - steps) // era.schedule.steps_per_epoch

    def ends_epoch(self, steps: int) -> bool:
        """Return whether an epoch ends with the last of this many steps."""
        return steps > 0 and self.epochs_begun(steps + 1) > self.epochs_begun(steps)

    def end_of(self, epochs: int) -> int:
        """Return how many steps so many epochs have, if nothing more is taken in than was so far."""
        number = max(bisect_right(self.eras, epochs - 1, key=lambda era: era.epoch) - 1, 0)
        era, *later = self.eras[number : number + 2]
        end = era.first + (epochs - era.epoch) * era.schedule.steps_per_epoch
        return min([end, *(next_one.first for next_one in later)])

    def _number(self, step: int) -> int:
        return bisect_right(self.eras, step, key=lambda era: era.first) - 1


RunOrder = PhasedSchedule | GrowingSchedule
"""What says which samples a step has."""
