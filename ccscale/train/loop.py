"""The training loop: from a config to a trained run, from whatever step its folder has reached."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from ccscale import checkpoint, dist
from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config
from ccscale.data.loader import default_workers
from ccscale.data.order.run import make_schedule
from ccscale.data.pairs import PairBatch, pair_batches
from ccscale.data.remote.access import Access
from ccscale.data.remote.cache import Cache
from ccscale.data.remote.location import is_url
from ccscale.data.remote.retry import Closing
from ccscale.data.shards.manifest import Manifest
from ccscale.engine.guard import SkippedSteps
from ccscale.errors import Fault, InputError
from ccscale.evaluate.assign import measure
from ccscale.evaluate.collapse import CollapseWatch
from ccscale.preempt import Stopped, StopRequest, stop_on_signal
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment
from ccscale.train.agreement import Agreement
from ccscale.train.announce import Forecast, going_on, introduce
from ccscale.train.feed import Feed
from ccscale.train.garbage import collect, collect_by_hand
from ccscale.train.heartbeat import Heartbeat, heartbeat
from ccscale.train.log import RunLog, describe
from ccscale.train.opening import open_training, restore
from ccscale.train.profile import StepProfile
from ccscale.train.step import Stepper


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int | None
    """Steps done; None where it was asked to stop before that was known."""
    finished: bool
    """False: it was asked to stop, and what there was to save is saved."""


def train_run(
    config: Config, request: StopRequest | None = None, on_lost: Callable[[], None] = lambda: None
) -> Outcome:
    """Train a run, or go on with it; every rank calls this in a process of its own.

    Parameters
    ----------
    config : Config
        The run's config.
    request : StopRequest, optional
        Of the caller's `stop_on_signal`, who has begun to listen before; by default one is made here.
    on_lost : callable, optional
        Called before this process is ended because another rank is lost; see `heartbeat`.

    Returns
    -------
    Outcome
        The step that it reached, and whether the run is finished or was asked to stop.

    Raises
    ------
    InputError
        For a mistake in the config or the data, before anything is written.
    Fault
        If the data cannot be read any more; the run is saved.
    """
    env = RankEnvironment.read()
    device = dist.pick_device(config.train.device, env.local_rank)
    alone = True
    with nullcontext(request) if request is not None else stop_on_signal() as request:
        try:
            with FolderLock(config.run_folder) as lock, ExitStack() as ranks:
                with request.at_once():  # until there is something to save
                    store = ranks.enter_context(dist.process_group(env, device))
                    alone = False
                    limit = config.train.rank_timeout
                    beat = ranks.enter_context(heartbeat(store, env.rank, env.world, limit, on_lost))
                    trainer = Trainer(config, env, device, lock, beat)
                return trainer.run(request)
        except Stopped as stopped:
            if alone or env.rank == 0:
                say(f"rank {env.rank} {stopped}" if env.rank else str(stopped))
            return Outcome(None, finished=False)


class Trainer:
    """One rank of a run: data, engine and log, and the step that they are used in."""

    def __init__(
        self, config: Config, env: RankEnvironment, device: torch.device, lock: FolderLock, beat: Heartbeat
    ) -> None:
        self.device, self.phases, self.lock, self.beat = device, config.phases, lock, beat
        self.access = Access.of(config.data)
        self.workers = (
            default_workers(env.local_world) if config.data.workers is None else config.data.workers
        )
        self.manifest = dist.on_rank_zero(lambda: open_data(config))
        # A remote shard is tried again for as long as `data.retry_seconds` says.
        self.reads_for_long = is_url(self.manifest.root)
        shards = self.manifest.select(config.data.splits)
        self.schedule = dist.on_rank_zero(lambda: make_schedule(config, shards, dist.world()))
        steps = config.train.epochs * self.schedule.steps_per_epoch
        self.stop = min(steps, config.train.max_steps or steps)

        digest = self.manifest.digest(config.data.splits)
        opening = open_training(config, digest, lock)
        self.config = config = opening.config
        found = opening.found
        introduce(config, self.manifest, self.schedule, device, self.stop)
        self.engine, self.step, self.bad = restore(config, opening, device)
        self.stepper = Stepper(config, self.engine, device, beat.where.part)
        self.saver, self.collapse = checkpoint.Saver(self.engine, config, found, lock.check), CollapseWatch()
        for reason in found.passed_over:
            _say(f"passed over a checkpoint: {reason}")
        if opening.begun:
            _say(going_on(self.step, self.stop, cut_off=found.cut_off and found.newest is None))
        if "cluster" not in config.losses:
            _say(
                "the cluster head is not trained: it is the features that tell how good the run is (k-means, "
                "`ccscale evaluate`), not its clusters"
            )
        elif config.train.global_batch < 2 * config.model.clusters:
            _say(
                f"warning: a global batch of {config.train.global_batch} can hardly show {config.model.clusters} "
                "clusters; several times as many images work better (train.global_batch)"
            )

    def run(self, request: StopRequest) -> Outcome:
        """Take the steps that are left, save and evaluate on the way."""
        config, feed = self.config, Feed(self.batches, self.device)
        images, every = config.train.global_batch, config.train.log_every
        skipped = SkippedSteps(config.train.max_bad_steps, _say, self._lower_rate)
        log = RunLog(
            config.run_folder,
            self.step,
            self.stop,
            every,
            images,
            dist.rank() == 0,
            judge=skipped.judge,
            before_writing=self.lock.check,
        )
        profile = StepProfile(config.run_folder, config.train.profile, dist.rank())
        with closing(feed), self.saver, log, profile, collect_by_hand(), self.beat.telling():
            missing = self.is_evaluated(self.step) and not dist.on_rank_zero(
                lambda: log.has_evaluation(self.step)
            )  # it was stopped between a save and the end of that step's evaluation
            if missing and not self.evaluate(log, request):
                return self._stop(request, evaluated=False)
            if dist.sum_integers([bool(request)])[0]:  # told before there was a step to take
                return self._stop(request)
            if self.step < self.stop:
                with request.at_once():
                    feed.fetch_first()
                dist.together(feed.check)
            even = self.device.type == "cpu" and not config.train.compile
            forecast = Forecast(self.step, self.stop, even, settle=log.flush)
            begun, where = self.step, self.beat.where
            while self.step < self.stop:
                batch, data_wait = feed.batch, feed.wait
                where.at(self.step + 1, "views", at_work=self.step == begun)  # the first step may compile
                phase = self.schedule.locate(self.step).phase
                losses, verdict = self.stepper.take(batch, self.phases[phase].losses)
                self.step += 1
                if self.step < self.stop:
                    where.at(self.step, "waiting for data", at_work=self.reads_for_long)
                    feed.fetch(request)  # the next one: a device computes meanwhile
                where.at(self.step, "agreeing with the other ranks")
                agreed = self.agree(batch, feed, request)
                where.at(self.step, "noting the step", at_work=True)  # on a disk that may be slow
                record = {
                    "step": self.step,
                    "epoch": self.epoch,
                    **({"phase": phase + 1} if len(self.phases) > 1 else {}),
                    **losses._asdict(),
                    "lr": config.train.lr,
                    "data_wait": data_wait,
                    "batch_digest": agreed.digest,
                    "bad_samples": len(self.bad),
                    "skipped": verdict.skipped,
                    "failed_saves": self.saver.failures,
                }
                skipped.note(record, verdict)
                log.step(record)
                forecast.step(self.step)
                profile.step()
                if self.step % every == 0:
                    collect()
                last, spoilt = self.step == self.stop, len(self.bad) > config.data.max_bad_samples
                ending = last or agreed.stopping > 0 or spoilt
                if ending or self.saver.is_due(self.step, late=agreed.late > 0):
                    log.flush()
                    self.save(wait=ending)
                    log.skip_time()
                if spoilt:
                    raise InputError(
                        f"{len(self.bad)} images cannot be decoded, and data.max_bad_samples is "
                        f"{config.data.max_bad_samples}; the last is {list(self.bad)[-1]}; the run is saved at "
                        f"step {self.step}: mend the data in {config.data.shards}, or raise the limit"
                    ).told_by(0)
                if agreed.stopping and not last:
                    return self._stop(request)
                if agreed.failing:
                    with self._saved_if_data_fail(log):
                        dist.together(feed.check)
                if self.is_evaluated(self.step) and not self.evaluate(log, request):
                    return self._stop(request, evaluated=False)
        return Outcome(self.step, finished=True)

    def batches(self, closing: Closing) -> Iterator[PairBatch]:
        """Yield this rank's part of the batches that are left; see `pair_batches`."""
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
            access=self.access,
            closing=closing,
        )

    @property
    def epoch(self) -> int:
        """The epoch of the last step that was taken, counted from 1; 0 before the first."""
        return -(-self.step // self.schedule.steps_per_epoch)

    def is_evaluated(self, step: int) -> bool:
        """Tell whether the clusters are measured after a step."""
        epochs, rest = divmod(step, self.schedule.steps_per_epoch)
        every = self.config.evaluate.every
        return step == self.stop or bool(step and every and rest == 0 and epochs % every == 0)

    def agree(self, batch: PairBatch, feed: Feed, request: StopRequest) -> Agreement:
        """Agree between ranks at a step's end; note bad images, and go on with the save that is under way."""
        agreed = Agreement(
            *batch.digest,
            len(batch.bad),
            bool(request),
            feed.failure is not None,
            *self.saver.votes(),
            self.saver.is_late,
        ).over_ranks()
        self.saver.count(agreed.written, agreed.unwritten)
        if agreed.bad:
            for line in (line for lines in dist.all_objects(batch.bad) for line in lines):
                if line not in self.bad:
                    self.bad[line] = None
                    _say(f"skipped an image that cannot be decoded: {line}")
        return agreed

    def save(self, wait: bool) -> None:
        """Save a checkpoint; if not `wait`, go on as soon as its content is copied.

        Raises
        ------
        Fault
            If it was waited for, and could not be written; if another process writes the run by now.
        """
        self.beat.where.at(self.step, "saving", at_work=True)
        dist.on_rank_zero(self.lock.check)
        state = {"bad": list(self.bad)}
        facts = {
            "step": self.step,
            "epoch": self.epoch,
            "data": self.manifest.name,
            "classes": self.manifest.classes,
        }
        (self.saver.save if wait else self.saver.begin)(self.step, state, facts)

    def evaluate(self, log: RunLog, request: StopRequest) -> bool:
        """Measure the clusters; return False if a request has cut that off, with the step saved."""
        self.beat.where.at(self.step, "evaluating", at_work=True)
        config = self.config
        splits = config.evaluated_splits
        try:
            with self._saved_if_data_fail(log):
                network, workers = self.engine.network, self.workers
                tally = measure(network, self.manifest, splits, config, workers, request, progress=False)
        except Stopped:
            log.flush()
            self.save(wait=True)
            return False
        clusters = "cluster" in config.losses  # those of a head that is not trained mean nothing
        summary = None
        if tally is not None:
            summary = tally.summary()
            log.evaluation({"step": self.step, "epoch": self.epoch, "splits": splits, **summary})
            _say(f"epoch {self.epoch}: {describe(summary)}")
            if clusters:
                for sentence in self.collapse.news(summary):
                    _say(f"warning: {sentence}")
        if clusters and self.saver.rate(self.step, summary):  # the best so far: it is kept
            self.save(wait=False)
            self.saver.rate(self.step, summary)
            log.skip_time()
        return True

    @contextmanager
    def _saved_if_data_fail(self, log: RunLog) -> Iterator[None]:
        """Where data that were good so far fail, on all ranks together: save, and end the run as a fault."""
        try:
            yield
        except (Fault, InputError) as error:
            if dist.world() > 1 and not dist.is_of_all_ranks(error):
                raise  # this rank's own: the others are not here to save
            try:
                log.flush()
                self.save(wait=True)
                fault = Fault(f"{error}; the run is saved at step {self.step}: run the same command to go on")
            except Fault as unsaved:
                fault = Fault(f"{error}; and {unsaved}")
            fault.teller = error.teller
            raise fault from None

    def _lower_rate(self) -> str:
        """Return what to do about steps that are not finite."""
        train, run = self.config.train, self.config.run_folder
        lower = f"run=DIR train.lr={train.lr / 3:.1g}"
        if not self.saver.saved and not self.saver.is_busy:
            return f"no checkpoint is saved yet: begin anew with a lower rate ({lower})"
        return (
            "go on in a new run with a lower rate, from the newest checkpoint or an earlier one "
            f"({lower} train.start={run}, or {run}@STEP)"
        )

    def _stop(self, request: StopRequest, evaluated: bool = True) -> Outcome:
        """Say that the run was stopped, and is saved."""
        took = f", {time.monotonic() - request.time:.1f} s after it" if request else ""
        saved = "saved" if self.step else "with nothing to save"
        where = f"at step {self.step} of {self.stop}" + (
            "" if evaluated else ", which is still to be evaluated"
        )
        _say(f"stopped on {request.name} {where}, {saved}{took}; run the same command to go on")
        return Outcome(self.step, finished=evaluated and self.step >= self.stop)


def open_data(config: Config) -> Manifest:
    """Read the manifest of a run's data, and check that its shards are there.

    Raises
    ------
    InputError
        If they are not.
    """
    data, access = config.data, Access.of(config.data)
    manifest = Manifest.load(data.shards, data.retry_seconds)
    if access.cache is not None:
        Cache(access.cache, access.cache_bytes)  # refused here if it cannot be
    for splits in (config.data.splits, config.evaluate.splits or ()):
        manifest.check_files(splits)
    return manifest


def _say(text: str) -> None:
    if dist.rank() == 0:
        say(text)
