"""The stages of a run as functions of the step. Pure, as all here.

::

    step    0 ...                   first          begin                       stop
            train.epochs            |  labels only |  labels, and trains on them |
    check                                          ^         ^         ^         ^
"""

from typing import NamedTuple

from ccscale.config import Config


class BoostSteps(NamedTuple):
    """The steps of the self-labelling after the training epochs.

    Attributes
    ----------
    first, begin, stop
        Steps that are done before it; before it trains, when each image was looked at; when it is done.
    every
        Steps between two checks.
    """

    first: int
    begin: int
    stop: int
    every: int

    @classmethod
    def of(cls, config: Config, steps_per_epoch: int) -> "BoostSteps":
        """Return the steps of a run's; `first` is `stop` where it has no such stage."""
        boost, first = config.stages.boost, config.train.epochs * steps_per_epoch
        begin = first + min(boost.epochs, 1) * steps_per_epoch
        stop = first + boost.epochs * steps_per_epoch
        return cls(first, begin, stop, boost.check_epochs * steps_per_epoch)

    def covers(self, step: int) -> bool:
        """Tell whether a step, counted from 0, is one of them."""
        return self.first <= step < self.stop

    def trains(self, step: int) -> bool:
        """Tell whether a step, counted from 0, trains by labels, and does not only give them."""
        return self.begin <= step < self.stop

    def is_checked(self, step: int, last: int) -> bool:
        """Tell whether it is looked at how it goes, after so many steps of a run that ends after `last`."""
        after = step - self.begin
        return (
            0 <= after <= self.stop - self.begin
            and self.first < self.stop
            and (after % self.every == 0 or step == last)
        )
