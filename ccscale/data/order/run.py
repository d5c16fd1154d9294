"""The schedule of a run, from its config, the sizes of its shards and the number of ranks. Pure functions."""

from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from ccscale.config import Config
from ccscale.data.order.growing import GrowingSchedule, RunOrder
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


class DataVersion(NamedTuple):
    """What a run's data are from some step on."""

    step: int
    """The first step that has it, counted from 0."""
    shards: Sequence[SizedShard]
    """Of the splits trained on: all that were taken in until then, in this order."""
    retired: Collection[int] = ()
    """Which of these give no samples any more, though theirs keep their numbers."""


def make_growing_schedule(config: Config, versions: Iterable[DataVersion], ranks: int) -> GrowingSchedule:
    """Make the schedule of a run whose data grow; see `make_schedule`, for each version of them."""
    return GrowingSchedule.of(
        [(step, make_schedule(config, shards, ranks, retired)) for step, shards, retired in versions]
    )


def make_schedule(
    config: Config, shards: Sequence[SizedShard], ranks: int, retired: Collection[int] = ()
) -> PhasedSchedule:
    """Make a run's schedule, and check that data, batch and ranks fit each other.

    Parameters
    ----------
    config
        The run's.
    shards
        Of the splits trained on, in the order of the manifest.
    ranks
        How many are to share the schedule's lanes; the schedule does not depend on it.
    retired
        Which of the shards give no samples, though these are counted.

    Raises
    ------
    InputError
        With the values that would fit.
    """
    firsts = accumulate((shard.nsamples for shard in shards), initial=0)
    numbered = enumerate(zip(shards, firsts, strict=False))
    active = [shard for number, shard in numbered if number not in retired]
    schedules = tuple(_phase_schedule(config, active, phase.splits) for phase in config.phases)
    config.check_ranks(ranks)
    return PhasedSchedule(schedules)


def _phase_schedule(
    config: Config, shards: Iterable[tuple[SizedShard, int]], splits: tuple[str, ...]
) -> Schedule:
    """Make the schedule of a phase, from each shard that the run trains on and the number of its first sample."""
    data, batch, lanes = config.data, config.train.global_batch, config.lanes
    chosen = [(shard, first) for shard, first in shards if shard.split in splits]
    sizes = tuple(shard.nsamples for shard, _ in chosen)
    if sum(sizes) < batch:
        raise InputError(
            f"the splits {', '.join(splits)} of {data.place} have only {sum(sizes)} images, less than a "
            f"global batch of {batch}; set train.global_batch to at most {sum(sizes)}"
        )
    piece = data.piece or default_piece(sizes)
    block = data.block
    if block is None:
        total_bytes, share = sum(shard.filesize for shard, _ in chosen), batch // lanes
        block = default_block(sum(sizes), total_bytes, data.block_bytes)
        block = max(block // share * share, min(block, share))  # a batch needs one block of a lane, not two
    return Schedule(sizes, config.seed, batch, lanes, piece, block, tuple(first for _, first in chosen))


def last_step(config: Config, schedule: RunOrder) -> int:
    """Return the number of steps that a run has; of data that grow, if nothing more is taken in than was so far.

    Where data grow, `train.max_steps` alone says how long a run is, if it is given.
    """
    limit = config.train.max_steps
    if config.data.refresh is not None and limit is not None:
        return limit
    steps = BoostSteps.of(config, schedule).stop
    return min(steps, limit or steps)
