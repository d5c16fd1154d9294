"""The stages of a run as pure functions of the step.

::

    step    0 ...                   first                    begin                       stop
            train.epochs            |  trains as before, and  |  trains by labels         |
                                    |  gives labels           |                           |
    check                                ^        ^           ^         ^        ^        ^
"""

from typing import NamedTuple

from ccscale.config import Config
from ccscale.data.order.growing import RunOrder


class BoostSteps(NamedTuple):
    """The steps of the self-labelling after the training epochs.

    Attributes
    ----------
    first, begin, stop
        Steps that are done before it; before it trains by labels; when it is done. It has not begun to train by
        labels where `begin` is `stop`.
    checks
        Steps that are done when it is looked at how it goes, beside the run's last where it has begun.
    """

    first: int
    begin: int
    stop: int
    checks: frozenset[int] = frozenset()

    @classmethod
    def of(cls, config: Config, schedule: RunOrder, begun: int | None = None) -> "BoostSteps":
        """Return the steps of a run's; `first` is `stop` where it has no such stage.

        Of data that grow they are those of what has been taken in so far.

        Parameters
        ----------
        config, schedule
            The run's.
        begun
            `begin`, where it was found that the run is ready (`Boost.settled`).
        """
        boost, before = config.stages.boost, config.train.epochs
        looked = before + min(boost.epochs, 1)
        ends = range(looked, before + boost.epochs + 1, boost.check_epochs)
        stop = schedule.end_of(before + boost.epochs)
        begin = schedule.end_of(looked) if boost.settled == 0 else stop
        return cls(
            schedule.end_of(before),
            begin if begun is None else begun,
            stop,
            frozenset(map(schedule.end_of, ends if boost.epochs else ())),
        )

    def covers(self, step: int) -> bool:
        """Tell whether a step, counted from 0, is one of them."""
        return self.first <= step < self.stop

    def trains(self, step: int) -> bool:
        """Tell whether a step, counted from 0, trains by labels, and does not only give them."""
        return self.begin <= step < self.stop

    def is_checked(self, step: int, last: int) -> bool:
        """Tell whether it is looked at how it goes, after so many steps of a run that ends after `last`."""
        return step in self.checks or (step == last and self.begin < step <= self.stop)
