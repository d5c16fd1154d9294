"""Measures the speed of a run on this machine: a few of its steps, from its initial weights, without saving
anything.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ccscale.checkpoint import Search
from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config
from ccscale.data.loader import default_workers
from ccscale.data.order.run import last_step
from ccscale.device import float32_products, pick_device
from ccscale.engine.build import build_engine
from ccscale.features.batches import Batch
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.probe import measured
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.boost.stage import BoostStage
from ccscale.train.data_waits import DeviceWait
from ccscale.train.feed import Feed
from ccscale.train.run_data import RunData
from ccscale.train.setup import Setup, open_data
from ccscale.train.step import Stepper

WARM_UP, STEPS, SECONDS = 3, 10, 10.0  # steps that do not count; steps that do, at least; how long they go on


@dataclass(frozen=True)
class Pace:
    """Measured speed and memory of one process.

    Attributes
    ----------
    device
        Where it was measured.
    step, epoch, total
        Seconds of a step, of an epoch, and of all steps of the run, without evaluations.
    bytes
        What the process holds for itself in the host's memory, its loader processes not counted.
    wait
        Seconds of a step for which its batch is waited for.
    workers
        Loader processes; 0 where features are read.
    boost_step
        Seconds of a step of the self-labelling; None where the run has none.
    """

    device: str
    step: float
    epoch: float
    total: float
    bytes: int
    wait: float
    workers: int
    boost_step: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def measure_pace(config: Config) -> Pace:
    """Take some steps of a run as one process would, where it is now.

    Raises
    ------
    InputError
        If the data are not there, or the device.
    """
    device = pick_device(config.train.device)
    with process_group(RankEnvironment(), device), float32_products(device, config.train.tf32):
        setup = set_up_alone(config, device)
        ((step, wait), boost), cost = measured(lambda: (_step_seconds(setup), _boost_step_seconds(setup)))
    boost_step = None if boost is None else boost[0]
    before = min(setup.stop, setup.boost.first)
    total = step * before + (boost_step or step) * (setup.stop - before)
    epoch = step * setup.schedule.end_of(1)
    return Pace(str(device), step, epoch, total, cost.bytes, wait, setup.readers, boost_step)


def set_up_alone(config: Config, device: torch.device) -> Setup:
    """Return the setup of such a run without a folder, from random weights."""
    config, manifest, features = open_data(config)
    supply = RunData.fixed(config, manifest, None if features is None else features.whole)
    schedule = supply.schedule(1)
    network = ContrastiveClustering(
        config.model.bare, config.views.size, None if features is None else features.width
    )
    network.begin_training(config.loss)
    return Setup(
        config,
        device,
        default_workers() if config.data.workers is None else config.data.workers,
        supply,
        schedule,
        FolderLock(Path("nowhere")),  # never taken
        Search(None, ()),
        build_engine(config, network, device),
        step=0,
        stop=last_step(config, schedule),
        state={"bad": []},
    )


def _step_seconds(setup: Setup) -> tuple[float, float]:
    """Return the seconds of a training step, and of waiting for data."""
    stepper, phases = Stepper(setup.config, setup.engine, setup.device), setup.config.phases
    return _seconds(
        setup, lambda batch: stepper.take(batch, phases[setup.schedule.locate(batch.step).phase].losses)
    )


def _boost_step_seconds(setup: Setup) -> tuple[float, float] | None:
    """Return the seconds of a self-labelling step; None if the run has none."""
    if setup.stop <= setup.boost.first:
        return None
    setup = replace(setup, step=setup.boost.first, begun=setup.boost.first)
    stepper = Stepper(setup.config, setup.engine, setup.device)
    stage = BoostStage(setup.config, setup.boost, stepper, setup.supply.intakes.samples, {})
    return _seconds(
        setup, lambda batch: stage.take(batch, setup.config.phases[0].losses, setup.config.boost_lr)
    )


def _seconds(setup: Setup, take: Callable[[Batch], object]) -> tuple[float, float]:
    """Return the seconds of a step from a setup's on, as the loop takes them, and those of waiting for data."""
    request, ends, waits = StopRequest(), [time.perf_counter()], list[float | DeviceWait]()
    with closing(Feed(setup.batches, setup.device)) as feed:
        feed.fetch_first()
        for number, step in enumerate(range(setup.step, setup.stop)):
            feed.check()
            if step + 1 < setup.stop:
                feed.begin()
            waits.append(feed.wait)
            take(feed.batch)
            if setup.device.type == "cuda":
                torch.cuda.synchronize(setup.device)
            if step + 1 < setup.stop:
                feed.fetch(request)
            ends.append(time.perf_counter())
            if number > WARM_UP + STEPS and ends[-1] - ends[WARM_UP] > SECONDS:
                break
    first = min(WARM_UP, len(ends) - 2)
    count = len(ends) - 1 - first
    return (ends[-1] - ends[first]) / count, sum(map(float, waits[first:])) / count
