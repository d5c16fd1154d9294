"""The stages of a run as pure functions of the step.

::

    step    0 ...                   first                    begin                       stop
            train.epochs            |  trains as before, and  |  trains by labels         |
                                    |  gives labels           |                           |
    check                                ^        ^           ^  ^      ^        ^        ^
"""

from typing import NamedTuple

from ccscale.config import Config
from ccscale.data.order.growing import RunOrder


class BoostSteps(NamedTuple):
    """The steps of the self-labelling after the training epochs.

    Attributes
    ----------
    first, begin, stop
        Steps that are done before it; before it trains by labels; when it is done, or was ended. It has not begun
        to train by labels where `begin` is `stop`.
    checks
        Steps after which the progress is checked, besides the first epoch that trains by labels, so that
        one that goes wrong costs few steps, and the run's last where it has begun.
    epochs
        Steps that are done when each of its epochs is.
    """

    first: int
    begin: int
    stop: int
    checks: frozenset[int] = frozenset()
    epochs: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, config: Config, schedule: RunOrder, begun: int | None = None, ended: int | None = None
    ) -> "BoostSteps":
        """Return the steps of a run's; `first` is `stop` where it has no such stage.

        Of data that grow they are those of what has been taken in so far.

        Parameters
        ----------
        config, schedule
            The run's.
        begun
            `begin`, where it was found that the run is ready (`Boost.settled`).
        ended
            `stop`, where it was found that it does not go well; the run trains on as before it.
        """
        boost, before = config.stages.boost, config.train.epochs
        looked = before + min(boost.epochs, 1)
        ends = range(looked, before + boost.epochs + 1, boost.check_epochs)
        stop = schedule.end_of(before + boost.epochs)
        if ended is not None:
            stop = min(stop, ended)
        begin = schedule.end_of(looked) if boost.settled == 0 else stop
        return cls(
            schedule.end_of(before),
            begin if begun is None else begun,
            stop,
            frozenset(step for step in map(schedule.end_of, ends if boost.epochs else ()) if step <= stop),
            tuple(map(schedule.end_of, range(looked, before + boost.epochs + 1))) if boost.epochs else (),
        )

    def covers(self, step: int) -> bool:
        """Return whether a step, counted from 0, is one of them."""
        return self.first <= step < self.stop

    def trains(self, step: int) -> bool:
        """Return whether a step, counted from 0, trains by labels, and does not only give them."""
        return self.begin <= step < self.stop

    def is_checked(self, step: int, last: int) -> bool:
        """Return whether the progress is checked after this many steps of a run that ends after `last`."""
        trained = next((end for end in self.epochs if end > self.begin), None)
        return step in self.checks or (step in (trained, last) and self.begin < step <= self.stop)
