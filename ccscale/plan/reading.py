"""The data that a rank reads, and the host memory of its loader."""

from dataclasses import dataclass

import numpy as np

from ccscale.config import Config
from ccscale.data.images.views import VIEWS
from ccscale.data.loader import MAX_WORKERS
from ccscale.data.order.run import last_step, make_schedule
from ccscale.data.order.schedule import owned
from ccscale.data.read_ahead import REQUEST_BYTES
from ccscale.data.remote import location
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import Fault, InputError
from ccscale.features.store import Features

STORED = 3  # batches of a feature store: as they are kept and as numbers, and the one in use
COUNTED = 2**25  # samples of a rank whose shards are looked up


@dataclass(frozen=True)
class PlannedData:
    """The data of a run and the part of rank 0; the other ranks have similar parts.

    Attributes
    ----------
    images, shards
        In the splits trained on.
    smallest_phase
        Images in the smallest phase of an epoch, which has to fill a batch.
    steps_per_epoch, steps
        Global batches in an epoch, and in the run.
    dropped
        Images that an epoch leaves out, others in each epoch.
    rank_shards
        Shards that a rank reads of in the first epoch; None: too many samples to look them up.
    """

    images: int
    shards: int
    smallest_phase: int
    steps_per_epoch: int
    steps: int
    dropped: int
    rank_shards: int | None


@dataclass(frozen=True)
class RunLoader:
    """The loader of one rank.

    Attributes
    ----------
    workers
        Processes.
    lanes
        Lanes of this rank, which its workers share.
    batches
        Host memory of batches: ready, being cut, being joined, fetched ahead, in use.
    blocks
        Host memory of remote shards' blocks; 0 where shards are local files.
    """

    workers: int
    lanes: int
    batches: int
    blocks: int


def read_data(config: Config, world: int) -> tuple[PlannedData | None, str | None]:
    """Look at a run's data, where they can be read from here.

    Returns
    -------
    RunData or None, str or None
        What is read; or why it cannot be told.

    Raises
    ------
    InputError
        If the data can be read, and do not fit the config.
    """
    data = config.data
    try:
        manifest = (
            Manifest.load(data.place, retry_seconds=1)
            if data.features is None
            else Features(data.features, unfinished=data.refresh is not None).manifest
        )
    except (InputError, Fault) as error:
        return None, str(error)
    shards = manifest.select(data.splits)
    schedule = make_schedule(config, shards, world)
    lanes = owned(schedule.lanes, 0, world)
    rank_shards = None
    sizes = np.array([shard.nsamples for shard in shards])
    phases = schedule.phases
    if len(lanes) * sum(phase.span for phase in phases) <= COUNTED:
        samples = np.concatenate(
            [
                schedule.order(turn).lane(lane, 0, phase.span)
                for turn, phase in enumerate(phases)
                for lane in lanes
            ]
        )
        rank_shards = len(np.unique(np.searchsorted(np.cumsum(sizes), samples, side="right")))
    seen = sum(phase.samples for phase in phases)
    return (
        PlannedData(
            images=int(sizes.sum()),
            shards=len(sizes),
            smallest_phase=min(phase.samples for phase in phases),
            steps_per_epoch=schedule.steps_per_epoch,
            steps=last_step(config, schedule),
            dropped=seen - schedule.steps_per_epoch * schedule.global_batch,
            rank_shards=rank_shards,
        ),
        None,
    )


def plan_loading(config: Config, world: int, cpus: int, width: int = 0) -> RunLoader:
    """Return the cost of the loader of a rank with that many cores. Pure.

    ::

        batches    (prefetch + 4) x 2 n S² 3 (of channels 4 C): ready; being cut, joined, fetched ahead, in use
        blocks     2 block_bytes a lane, and a worker's requests

    Of a feature store, whose rows have `width` numbers, there are no workers, and batches of features.
    """
    data, lanes = config.data, config.lanes // world
    wanted = min(MAX_WORKERS, max(1, cpus - 1)) if data.workers is None else data.workers
    n = config.train.global_batch // world
    remote = location.is_url(location.local_or_url(data.place))
    workers = min(wanted, lanes if remote else n)
    numbers = 4 * config.model.in_chans if config.model.of_channels else 3  # bytes of a pixel
    batch = VIEWS * n * config.views.size**2 * numbers
    ready = data.prefetch + 4 if workers else 3
    if data.features is not None:  # read from the memory map, by the process that trains
        return RunLoader(0, lanes, STORED * VIEWS * n * width * 4, 0)
    blocks = 2 * lanes * data.block_bytes + max(workers, 1) * REQUEST_BYTES if remote else 0
    return RunLoader(workers, lanes, ready * batch, blocks)
