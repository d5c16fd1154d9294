"""What the ranks agree on at a step's end: integers that one small collective call adds up over them."""

from typing import NamedTuple

from ccscale import dist


class Agreement(NamedTuple):
    """One rank's part, or the sums over all ranks; `ccscale plan` counts these fields."""

    digest_high: int
    """The two halves of the batch's digest, of 32 bits each."""
    digest_low: int
    bad: int
    """Images that cannot be decoded."""
    stopping: int
    """Whether to stop."""
    failing: int
    """Whether there is no next batch."""
    written: int
    """Whether the checkpoint that is under way is written; see `Saver.votes`."""
    unwritten: int
    """Whether it cannot be written."""
    late: int
    """Whether the last save is `train.save_minutes` ago; see `Saver.is_late`."""

    def over_ranks(self) -> "Agreement":
        """Add up over the ranks; all call it together."""
        return Agreement(*dist.sum_integers(self))

    @property
    def digest(self) -> str:
        """The batch's digest, as hexadecimal digits."""
        return f"{self.digest_high % 2**32:08x}{self.digest_low % 2**32:08x}"


BYTES = len(Agreement._fields) * dist.INTEGER.itemsize
"""What a rank sends for it."""
