"""The schedule of a run: from its config, the sizes of its shards and the number of ranks. Pure, as all here."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from ccscale.config import Config
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule, default_block, default_piece
from ccscale.data.order.stages import BoostSteps
from ccscale.errors import InputError


class SizedShard(Protocol):
    """What the order depends on of a shard; `Shard` of a manifest has it."""

    @property
    def split(self) -> str:
        """The split that its samples belong to."""

    @property
    def nsamples(self) -> int:
        """Number of samples."""

    @property
    def filesize(self) -> int:
        """Size in bytes."""


def make_schedule(config: Config, shards: Sequence[SizedShard], ranks: int) -> PhasedSchedule:
    """Make a run's schedule, and check that data, batch and ranks fit each other.

    Parameters
    ----------
    config
        The run's.
    shards
        Of the splits trained on, in the order of the manifest.
    ranks
        How many are to share the schedule's lanes; the schedule does not depend on it.

    Raises
    ------
    InputError
        With the values that would fit.
    """
    schedules = tuple(_phase_schedule(config, shards, phase.splits) for phase in config.phases)
    config.check_ranks(ranks)
    return PhasedSchedule(schedules)


def _phase_schedule(config: Config, shards: Sequence[SizedShard], splits: tuple[str, ...]) -> Schedule:
    """Make the schedule of a phase, whose samples are counted through all shards that the run trains on."""
    data, batch, lanes = config.data, config.train.global_batch, config.lanes
    firsts = accumulate((shard.nsamples for shard in shards), initial=0)
    chosen = [(shard, first) for shard, first in zip(shards, firsts, strict=False) if shard.split in splits]
    sizes = tuple(shard.nsamples for shard, _ in chosen)
    if sum(sizes) < batch:
        raise InputError(
            f"the splits {', '.join(splits)} of {data.place} have {sum(sizes)} images, which "
            f"do not fill a global batch of {batch}; set train.global_batch to at most {sum(sizes)}"
        )
    piece = data.piece or default_piece(sizes)
    block = data.block
    if block is None:
        total_bytes, share = sum(shard.filesize for shard, _ in chosen), batch // lanes
        block = default_block(sum(sizes), total_bytes, data.block_bytes)
        block = max(block // share * share, min(block, share))  # a batch needs one block of a lane, not two
    return Schedule(sizes, config.seed, batch, lanes, piece, block, tuple(first for _, first in chosen))


def last_step(config: Config, schedule: PhasedSchedule) -> int:
    """Return the number of steps that a run has."""
    steps = BoostSteps.of(config, schedule.steps_per_epoch).stop
    return min(steps, config.train.max_steps or steps)
