"""Everything that one rank trains with: data, schedule, folder, and the engine, restored from the newest
checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ccscale import dist
from ccscale.checkpoint import Search
from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config
from ccscale.config.views import strong_view, weak_view
from ccscale.data.images.channels import Channels
from ccscale.data.loader import default_workers
from ccscale.data.order.growing import GrowingSchedule
from ccscale.data.order.run import last_step
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import Triples, pair_batches
from ccscale.data.remote.access import Access
from ccscale.data.remote.cache import Cache
from ccscale.data.remote.location import is_url
from ccscale.data.remote.retry import Closing
from ccscale.data.ring import Allot, plain_memory
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.pixels import follow_pixels
from ccscale.engine.adapter import Engine
from ccscale.features.batches import Batch, feature_batches
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features
from ccscale.features.store_config import open_run_store
from ccscale.rank_environment import RankEnvironment
from ccscale.train.boost.given import GivenClasses, find_given
from ccscale.train.boost.stage import KEY, as_begun
from ccscale.train.messages import advise, describe_resume, describe_run
from ccscale.train.opening import open_training, restore
from ccscale.train.run_data import RunData, keep_run_data, missing_shards, open_run_data
from ccscale.train.run_data_watch import RunDataWatch
from ccscale.train.trackers.trackers import check_trackers


@dataclass(frozen=True)
class Setup:
    """All that a `Trainer` needs.

    Attributes
    ----------
    config
        The run's, with the origin of its weights as it was at its beginning.
    device, workers
        Of this rank: where it trains, its loader processes.
    supply, schedule
        The data, and the order of their samples.
    lock
        Of the run's folder.
    found
        The checkpoints that were there.
    engine
        DeepSpeed's, with the network.
    step, stop
        Steps that are done, steps that there will be.
    state
        What the newest checkpoint has besides weights and optimizer: ``bad``, lines about images that are known not
        to be decodable, in the order in which they were met; ``boost`` of the self-labelling, once it has begun.
    frozen
        SHA-256 of the run's file with what is frozen of the network, if anything is.
    given
        Labels that a user gives for the self-labelling.
    begun, ended
        The step from which the self-labelling trains by labels, where it was found that the run is ready; the one
        after which it was ended, if it was.
    """

    config: Config
    device: torch.device
    workers: int
    supply: RunData
    schedule: GrowingSchedule
    lock: FolderLock
    found: Search
    engine: Engine
    step: int
    stop: int
    state: dict[str, Any]
    frozen: str | None = None
    given: GivenClasses | None = None
    begun: int | None = None
    ended: int | None = None

    @cached_property
    def boost(self) -> BoostSteps:
        """The steps of its self-labelling."""
        return BoostSteps.of(self.config, self.schedule, self.begun, self.ended)

    @property
    def manifest(self) -> Manifest:
        """All data that were taken in, whose samples have the numbers that the schedule knows."""
        return self.supply.numbered[0]

    @property
    def features(self) -> Features | None:
        """The store, where the data are one."""
        return self.supply.numbered[1]

    @property
    def readers(self) -> int:
        """Loader processes of this rank; 0 where features are read."""
        return 0 if self.config.data.features is not None else self.workers

    @cached_property
    def reads_for_long(self) -> bool:
        """Whether a shard is read from far away, which is tried for as long as `data.retry_seconds` says."""
        shards = () if self.features else self.manifest.select(self.config.data.splits)
        return any(is_url(self.manifest.locate(shard)) for shard in shards)

    def batches(self, closing: Closing, allot: Allot | None = None) -> Iterator[Batch]:
        """Yield this rank's part of the batches that are left; see `pair_batches` and `feature_batches`."""
        if self.features is not None:
            draw = PairDraw(self.features, self.config.pairs, self.config.seed, self.config.views.raw)
            return feature_batches(
                draw,
                self.schedule,
                self.step,
                self.stop,
                rank=dist.rank(),
                world=dist.world(),
                boost=self.boost,
                allot=allot or plain_memory,
            )
        return pair_batches(
            self.manifest,
            self.config.data.splits,
            self.schedule,
            self.config.views,
            self.step,
            self.stop,
            rank=dist.rank(),
            world=dist.world(),
            workers=self.workers,
            prefetch=self.config.data.prefetch,
            access=Access.of(self.config.data),
            closing=closing,
            triples=self._triples,
            allot=allot,
            channels=Channels.of(self.config.model),
        )

    @property
    def _triples(self) -> Triples | None:
        """What the views of an image are while it is labelled; None where there is no such stage."""
        boost, views = self.config.stages.boost, self.config.views
        if not boost.epochs:
            return None
        return Triples(self.boost, weak_view(views, boost.weak), strong_view(views, boost.strong))

    def epoch(self, step: int) -> int:
        """Return the epoch of the last of this many steps, counted from 1; 0 before the first."""
        return self.schedule.epochs_begun(step)

    def facts(self, step: int) -> dict[str, Any]:
        """Return the facts for the checkpoint of a step."""
        return {
            "step": step,
            "epoch": self.epoch(step),
            "data": self.manifest.name,
            "classes": self.manifest.classes,
            **({"frozen": self.frozen} if self.frozen else {}),
            **({"width": self.features.width} if self.features else {}),
        }

    def is_evaluated(self, step: int) -> bool:
        """Return whether the clusters are measured after a step."""
        every = self.config.evaluate.every
        due = bool(every) and self.schedule.ends_epoch(step) and self.epoch(step) % every == 0
        return due or step == self.stop or self.boost.is_checked(step, self.stop)

    def is_looked_at(self, step: int) -> bool:
        """Return whether the data are to be read again after a step, and what follows is not decided yet."""
        refresh = self.config.data.refresh
        if refresh is None or step <= self.supply.intakes.looked:
            return False
        return self.schedule.ends_epoch(step) if refresh == "epoch" else step % refresh == 0

    def of(self, supply: RunData, step: int) -> "Setup":
        """Return the setup from a step on, after an intake."""
        schedule, config = supply.schedule(dist.world()), self.config
        return replace(
            self,
            supply=supply,
            schedule=schedule,
            step=step,
            stop=last_step(config, schedule),
            given=dist.on_rank_zero(lambda: _given(supply)),
        )


def set_up(config: Config, env: RankEnvironment, device: torch.device, lock: FolderLock) -> Setup:
    """Read the data, open the run's folder, and restore its newest checkpoint; all ranks call it together.

    Parameters
    ----------
    config
        The config as it is asked for now.
    env, device
        Of this rank.
    lock
        Of the run's folder; it is taken.

    Raises
    ------
    InputError
        For a mistake in the config or the data, before anything is written.
    """
    dist.on_rank_zero(lambda: check_trackers(config))
    supply = dist.on_rank_zero(lambda: open_run_data(*open_data(config)))
    missing = dist.on_rank_zero(lambda: missing_shards(supply))
    schedule = dist.on_rank_zero(lambda: supply.schedule(dist.world()))
    given = dist.on_rank_zero(lambda: _given(supply))
    opening = open_training(supply.config, supply.kept.data, lock, supply.numbered[1], device)
    config, found = opening.config, opening.found
    if supply.grows:
        supply = replace(supply, kept=dist.on_rank_zero(lambda: keep_run_data(supply)))
    stop = last_step(config, schedule)
    now = supply.at(supply.intakes.looked)[0]
    for line in describe_run(config, now, schedule.eras[-1].schedule, device, stop):
        dist.say(line)
    engine, step, state = restore(opening, device, stop)
    dist.on_rank_zero(lambda: supply.kept.check(state, step, config.run_folder))
    workers = default_workers(env.local_world) if config.data.workers is None else config.data.workers
    kept = state.get(KEY, {})
    setup = Setup(
        as_begun(config, kept),
        device,
        workers,
        supply,
        schedule,
        lock,
        found,
        engine,
        step,
        stop,
        state,
        frozen=opening.frozen,
        given=given,
        begun=kept.get("begun"),
        ended=kept["checks"][-1]["step"] if kept.get("ended") else None,
    )
    if missing:
        setup = setup.of(RunDataWatch().retire(supply, missing, step), step)
    for reason in found.passed_over:
        dist.say(f"skipped a checkpoint: {reason}")
    if opening.begun:
        first_save_failed = found.cut_off and found.newest is None
        dist.say(describe_resume(step, setup.stop, first_save_failed))
    for line in advise(config):
        dist.say(line)
    return setup


def _given(supply: RunData) -> GivenClasses | None:
    return find_given(supply.config, *supply.numbered, supply.intakes.retired)


def open_data(config: Config) -> tuple[Config, Manifest, Features | None]:
    """Read the manifest of a run's data, and check that its shards are there; or open its feature store.

    Returns
    -------
    Config, Manifest, Features or None
        The config follows the store, where there is one, and what was measured of images of channels.

    Raises
    ------
    InputError
        If they are not there, or a store is not what the config says.
    """
    data, access = config.data, Access.of(config.data)
    if data.features is not None:
        config, features = open_run_store(config)
        features.at(config.evaluated_splits)
        return config, features.whole.manifest, features
    manifest = Manifest.load(data.place, data.retry_seconds)
    config = config.model_copy(update={"model": follow_pixels(config.model, manifest)})
    if access.cache is not None:
        Cache(access.cache, access.cache_bytes)  # refused here if it cannot be
    trained = set(config.data.splits)
    # What is new of data that grow may not be whole yet, and what was taken in is searched for by `missing_shards`.
    manifest.check_files(trained if data.refresh is None else ())
    manifest.check_files(set(config.evaluate.splits or ()) - trained)
    return config, manifest, None
