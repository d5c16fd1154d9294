"""What one rank of a run trains with: data, schedule, folder, and the engine as the newest checkpoint left it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ccscale import dist
from ccscale.checkpoint import Search
from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config
from ccscale.config.views import strong_view, weak_view
from ccscale.data.loader import default_workers
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.run import last_step, make_schedule
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import Triples, pair_batches
from ccscale.data.remote.access import Access
from ccscale.data.remote.cache import Cache
from ccscale.data.remote.retry import Closing
from ccscale.data.shards.manifest import Manifest
from ccscale.engine.adapter import Engine
from ccscale.features.batches import Batch, feature_batches
from ccscale.features.following import content_digest, open_followed
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features
from ccscale.rank_environment import RankEnvironment
from ccscale.train.boost.given import GivenClasses, find_given
from ccscale.train.messages import advise, describe_resume, describe_run
from ccscale.train.opening import open_training, restore


@dataclass(frozen=True)
class Setup:
    """All that a `Trainer` needs.

    Attributes
    ----------
    config
        The run's, with the origin of its weights as it was at its beginning.
    device, workers
        Of this rank: where it trains, its loader processes.
    manifest, schedule
        The data, and the order of their samples.
    features
        The store, where the data are one.
    lock
        Of the run's folder.
    found
        The checkpoints that were there.
    engine
        DeepSpeed's, with the network.
    step, stop
        Steps that are done, steps that there will be.
    boost
        The steps of its self-labelling.
    state
        What the newest checkpoint has beside weights and optimizer: ``bad``, lines about images that are known not
        to be decodable, in the order in which they were met; ``boost`` of the self-labelling, once it has begun.
    frozen
        SHA-256 of the run's file with what is frozen of the network, if anything is.
    given
        Labels that a user gives for the self-labelling.
    """

    config: Config
    device: torch.device
    workers: int
    manifest: Manifest
    schedule: PhasedSchedule
    lock: FolderLock
    found: Search
    engine: Engine
    step: int
    stop: int
    boost: BoostSteps
    state: dict[str, Any]
    frozen: str | None = None
    features: Features | None = None
    given: GivenClasses | None = None

    def batches(self, closing: Closing) -> Iterator[Batch]:
        """Yield this rank's part of the batches that are left; see `pair_batches` and `feature_batches`."""
        if self.features is not None:
            draw = PairDraw(self.features, self.config.pairs, self.config.seed, self.config.views.raw)
            steps = self.step, self.stop
            ranks = {"rank": dist.rank(), "world": dist.world()}
            return feature_batches(draw, self.schedule, *steps, **ranks, triples_from=self.boost.first)
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
        )

    @property
    def _triples(self) -> Triples | None:
        """What the views of an image are while it is labelled; None where there is no such stage."""
        boost, views = self.config.stages.boost, self.config.views
        if not boost.epochs:
            return None
        return Triples(self.boost.first, weak_view(views, boost.weak), strong_view(views, boost.strong))

    def epoch(self, step: int) -> int:
        """Return the epoch of the last of so many steps, counted from 1; 0 before the first."""
        return -(-step // self.schedule.steps_per_epoch)

    def is_evaluated(self, step: int) -> bool:
        """Tell whether the clusters are measured after a step."""
        epochs, rest = divmod(step, self.schedule.steps_per_epoch)
        every = self.config.evaluate.every
        due = bool(step and every and rest == 0 and epochs % every == 0)
        return due or step == self.stop or self.boost.is_checked(step, self.stop)

    @property
    def images(self) -> int:
        """Samples of the splits that are trained on."""
        return sum(shard.nsamples for shard in self.manifest.select(self.config.data.splits))


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
    config, manifest, features = dist.on_rank_zero(lambda: open_data(config))
    shards = manifest.select(config.data.splits)
    schedule = dist.on_rank_zero(lambda: make_schedule(config, shards, dist.world()))
    given = dist.on_rank_zero(lambda: find_given(config, manifest, features))
    stop = last_step(config, schedule)
    digest = manifest.digest(config.data.splits)
    if features is not None:
        digest = f"{digest}/{content_digest(config, features)}"
    opening = open_training(config, digest, lock, features, device)
    config, found = opening.config, opening.found
    for line in describe_run(config, manifest, schedule, device, stop):
        dist.say(line)
    engine, step, state = restore(opening, device)
    if state.get("boost", {}).get("ended"):
        stop = step  # what its steps would be is not asked any more
    for reason in found.passed_over:
        dist.say(f"passed over a checkpoint: {reason}")
    if opening.begun:
        dist.say(describe_resume(step, stop, first_save_failed=found.cut_off and found.newest is None))
    for line in advise(config):
        dist.say(line)
    workers = default_workers(env.local_world) if config.data.workers is None else config.data.workers
    steps = step, stop, BoostSteps.of(config, schedule.steps_per_epoch)
    data = manifest, schedule, lock, found
    return Setup(config, device, workers, *data, engine, *steps, state, opening.frozen, features, given)


def open_data(config: Config) -> tuple[Config, Manifest, Features | None]:
    """Read the manifest of a run's data, and check that its shards are there; or open its feature store.

    Returns
    -------
    Config, Manifest, Features or None
        The config follows the store, where there is one.

    Raises
    ------
    InputError
        If they are not there, or a store is not what the config says.
    """
    data, access = config.data, Access.of(config.data)
    if data.features is not None:
        config, features = open_followed(config)
        features.at(config.evaluated_splits)
        return config, features.whole.manifest, features
    manifest = Manifest.load(data.place, data.retry_seconds)
    if access.cache is not None:
        Cache(access.cache, access.cache_bytes)  # refused here if it cannot be
    for splits in (config.data.splits, config.evaluate.splits or ()):
        manifest.check_files(splits)
    return config, manifest, None
