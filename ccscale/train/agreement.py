"""What the ranks agree on at the end of each step, so that all of them act alike."""

from typing import NamedTuple

from ccscale import dist


class Agreement(NamedTuple):
    """One rank's part, or the sums over all ranks: one small collective call, whose bytes `ccscale plan` counts."""

    digest_high: int
    """The two halves of the batch's digest, of 32 bits each."""
    digest_low: int
    bad: int
    """Images that cannot be decoded."""
    stopping: int
    """Whether to stop."""
    starved: int
    """Whether there is no next batch."""
    written: int
    """Whether the checkpoint that is under way is written; see `Saver.votes`."""
    unwritten: int
    """Whether it cannot be written."""
    late: int
    """Whether the last save is `train.save_minutes` ago; see `Saver.is_late`."""

    def over_ranks(self) -> "Agreement":
        """Sum over the ranks; all call it together."""
        return Agreement(*dist.sum_integers(self))

    @property
    def digest(self) -> str:
        """The batch's digest, as hexadecimal digits."""
        return f"{self.digest_high % 2**32:08x}{self.digest_low % 2**32:08x}"


BYTES = len(Agreement._fields) * dist.INTEGER.itemsize
"""What a rank sends for it."""


class StepEnd(NamedTuple):
    """The end of a step, the same on all ranks: what the loop does before the next one, in this order."""

    save_due: bool
    """A checkpoint is to be saved."""
    spoilt: bool
    """More images cannot be decoded than allowed: the run ends with an `InputError`."""
    stopping: bool
    """A rank was asked to stop, and steps remain."""
    starved: bool
    """A rank has no next batch: the run ends with a `Fault`."""
    last: bool
    """It was the run's last step."""

    @property
    def is_final(self) -> bool:
        """No step follows: its checkpoint is waited for."""
        return self.spoilt or self.stopping or self.last
