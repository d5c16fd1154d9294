"""The training loop: from a config to a trained run, from whatever step its folder has reached."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ccscale import dist
from ccscale.config import Config, divisors
from ccscale.data.colour import apply_colour
from ccscale.data.manifest import Manifest
from ccscale.data.schedule import Schedule, default_piece
from ccscale.data.stream import PairBatch, default_workers, pair_batches
from ccscale.errors import InputError
from ccscale.evaluate.assign import assign
from ccscale.evaluate.metrics import summarize
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import ContrastiveClustering
from ccscale.place import Place
from ccscale.progress import say
from ccscale.train import checkpoint
from ccscale.train.engine import build_engine
from ccscale.train.log import RunLog, describe
from ccscale.train.preempt import StopRequest, stop_on_signal
from ccscale.train.run import open_run


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int
    """Steps done."""
    finished: bool
    """False: it was asked to stop, and has saved."""


def train_run(config: Config) -> Outcome:
    """Train a run, or go on with it; every rank calls this in a process of its own.

    Raises
    ------
    InputError
        For a mistake in the config or the data, before anything is written.
    """
    place = Place.from_environment()
    device = dist.pick_device(config.train.device, place.local_rank)
    with dist.process_group(place, device), stop_on_signal() as request:
        return Trainer(config, place, device).run(request)


class Trainer:
    """One rank of a run: data, engine and log, and the step that they are used in."""

    def __init__(self, config: Config, place: Place, device: torch.device) -> None:
        self.config, self.device = config, device
        self.workers = (
            default_workers(place.local_world) if config.data.workers is None else config.data.workers
        )
        self.manifest = dist.on_rank_zero(lambda: open_data(config))
        self.schedule = dist.on_rank_zero(lambda: plan(config, self.manifest))
        steps = config.train.epochs * self.schedule.steps_per_epoch
        self.stop = min(steps, config.train.max_steps or steps)

        digest = self.manifest.digest(config.data.splits)
        torch.manual_seed(config.seed)  # the same weights on every rank
        network = dist.together(lambda: ContrastiveClustering(config.model, config.views.size))
        begun = dist.on_rank_zero(lambda: open_run(config, digest))  # what is refused above leaves no folder
        found = dist.on_rank_zero(lambda: checkpoint.find(config.run_folder))
        self.engine, self.step, self.bad = self._restore(network, found)
        for reason in found.passed_over:
            _say(f"passed over a checkpoint: {reason}")
        if begun:
            done = ": there is nothing left to do" if self.step >= self.stop else ""
            _say(f"going on from step {self.step} of {self.stop}{done}")
        if config.train.global_batch < 2 * config.model.clusters:
            _say(
                f"warning: a global batch of {config.train.global_batch} can hardly show {config.model.clusters} "
                "clusters; several times as many images work better (train.global_batch)"
            )

    def _restore(
        self, network: torch.nn.Module, found: checkpoint.Search
    ) -> tuple[Any, int, dict[str, None]]:
        """Build the engine and load the newest checkpoint; return engine, step and images known to be bad."""
        config, newest = self.config, found.newest
        if newest is None:
            return build_engine(config, network, self.device), 0, {}
        universal = None
        if checkpoint.needs_universal(newest, config):
            _say(f"converting {newest.path.name} from {newest.world} to {dist.world()} ranks")
            universal = dist.on_rank_zero(lambda: checkpoint.make_universal(newest))
        engine = build_engine(config, network, self.device, universal=universal is not None)
        state = checkpoint.load(engine, newest, universal)
        return engine, newest.step, dict.fromkeys(state["bad"])

    def run(self, request: StopRequest) -> Outcome:
        """Take the steps that are left, save and evaluate on the way."""
        config, rank = self.config, dist.rank()
        saved = self.step
        batches = pair_batches(
            self.manifest,
            config.data.splits,
            self.schedule,
            config.views,
            self.step,
            self.stop,
            rank=rank,
            world=dist.world(),
            workers=self.workers,
            prefetch=config.data.prefetch,
        )
        images, every = config.train.global_batch, config.train.log_every
        with RunLog(config.run_folder, self.step, self.stop, every, images, write=rank == 0) as log:
            if self.is_evaluated(self.step) and not dist.on_rank_zero(lambda: log.has_evaluation(self.step)):
                self.evaluate(log)  # it was stopped between a save and the evaluation of that step
            while self.step < self.stop:
                waiting = time.perf_counter()
                batch = next(batches)
                data_wait = time.perf_counter() - waiting
                losses = self.take_step(batch)
                self.step += 1
                digest, stopping = self.agree(batch, request)
                log.step(
                    {
                        "step": self.step,
                        "epoch": self.epoch,
                        **losses,
                        "lr": config.train.lr,
                        "data_wait": data_wait,
                        "batch_digest": digest,
                        "bad_samples": len(self.bad),
                    }
                )
                last, spoilt = self.step == self.stop, len(self.bad) > config.data.max_bad_samples
                if last or stopping or spoilt or self.step - saved >= config.train.save_every:
                    log.flush()
                    self.save()
                    saved = self.step
                    log.skip_time()
                if spoilt:
                    raise InputError(
                        f"{len(self.bad)} images cannot be decoded, and data.max_bad_samples is "
                        f"{config.data.max_bad_samples}; the last is {list(self.bad)[-1]}; the run is saved at "
                        f"step {self.step}: mend the data in {config.data.shards}, or raise the limit"
                    )
                if stopping and not last:
                    self._say_goodbye(request)
                    return Outcome(self.step, finished=False)
                if self.is_evaluated(self.step):
                    self.evaluate(log)
        return Outcome(self.step, finished=True)

    @property
    def epoch(self) -> int:
        """The epoch of the last step that was taken, counted from 1; 0 before the first."""
        return -(-self.step // self.schedule.steps_per_epoch)

    def is_evaluated(self, step: int) -> bool:
        """Tell whether the clusters are measured after a step."""
        epochs, rest = divmod(step, self.schedule.steps_per_epoch)
        every = self.config.evaluate.every
        return step == self.stop or bool(step and every and rest == 0 and epochs % every == 0)

    def take_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """Take one step: colour, network, both losses over the global batch, gradients, Adam."""
        config = self.config
        # Dropout and the like draw from here: a resume needs no random state, (seed, step, rank) gives it.
        torch.manual_seed((config.seed << 32) + batch.step * dist.world() + dist.rank())
        images = batch.images.to(self.device, non_blocking=True).flatten(0, 1)  # (2n, S, S, 3), view a first
        dtype = torch.float64 if config.train.precision == "fp64" else torch.float32
        views = apply_colour(images, batch.colour.flatten(), config.views, dtype)  # (2n, 3, S, S)

        outputs = self.engine(views.contiguous(memory_format=torch.channels_last))  # faster convolutions
        z_a, z_b = outputs.embeddings.chunk(2)
        p_a, p_b = outputs.assignments.chunk(2)
        instance = instance_loss(z_a, z_b, config.loss.instance_temperature)
        cluster = cluster_loss(p_a, p_b, config.loss.cluster_temperature)
        loss = instance + cluster

        self.engine.backward(loss)
        self.engine.step()
        return {"loss": loss.detach(), "instance_loss": instance.detach(), "cluster_loss": cluster.detach()}

    def agree(self, batch: PairBatch, request: StopRequest) -> tuple[str, bool]:
        """Agree between ranks at a step's end: the batch's digest, which images were bad, whether to stop."""
        first, second, bad, stopping = dist.sum_integers([*batch.digest, len(batch.bad), bool(request)])
        if bad:
            for line in (line for lines in dist.all_objects(batch.bad) for line in lines):
                if line not in self.bad:
                    self.bad[line] = None
                    _say(f"skipped an image that cannot be decoded: {line}")
        return f"{first % 2**32:08x}{second % 2**32:08x}", stopping > 0

    def save(self) -> None:
        """Save a checkpoint."""
        state = {"bad": list(self.bad)}
        facts = {
            "step": self.step,
            "epoch": self.epoch,
            "data": self.manifest.name,
            "classes": self.manifest.classes,
        }
        checkpoint.save(self.engine, self.config, self.step, state, facts)

    def evaluate(self, log: RunLog) -> None:
        """Measure the clusters."""
        config = self.config
        splits = config.evaluate.splits or config.data.splits
        found = assign(
            self.engine.module,
            self.manifest,
            splits,
            batch=config.evaluate.batch,
            scaled_decode=config.views.scaled_decode,
            workers=self.workers,
            progress=False,
        )
        if found is not None:
            summary = summarize(found.clusters, found.confidence, found.labels, config.model.clusters)
            log.evaluation({"step": self.step, "epoch": self.epoch, "splits": splits, **summary})
            _say(f"epoch {self.epoch}: {describe(summary)}")

    def _say_goodbye(self, request: StopRequest) -> None:
        name = request.signal.name if request.signal else "a signal on another rank"
        took = f", {time.monotonic() - request.time:.1f} s after it" if request else ""
        _say(
            f"stopped on {name} at step {self.step} of {self.stop}, saved{took}; run the same command to go on"
        )


def open_data(config: Config) -> Manifest:
    """Read the manifest of a run's data, and check that its shards are there.

    Raises
    ------
    InputError
        If they are not.
    """
    manifest = Manifest.load(config.data.shards)
    for splits in (config.data.splits, config.evaluate.splits or ()):
        manifest.check_files(splits)
    return manifest


def plan(config: Config, manifest: Manifest) -> Schedule:
    """Make a run's schedule and check that data, batch and ranks fit each other.

    Raises
    ------
    InputError
        With the values that would fit.
    """
    shards = manifest.select(config.data.splits)
    sizes, batch, lanes = tuple(shard.nsamples for shard in shards), config.train.global_batch, config.lanes
    if sum(sizes) < batch:
        raise InputError(
            f"the splits {', '.join(config.data.splits)} of {config.data.shards} have {sum(sizes)} images, which "
            f"do not fill a global batch of {batch}; set train.global_batch to at most {sum(sizes)}"
        )
    if lanes % dist.world():
        raise InputError(
            f"{dist.world()} ranks do not divide the {lanes} lanes of this run; start "
            f"{', '.join(map(str, divisors(lanes)))} ranks, or set data.lanes and train.global_batch to multiples "
            f"of {dist.world()}"
        )
    piece = config.data.piece or default_piece(sizes, lanes, remote=not manifest.is_local)
    return Schedule(sizes, config.seed, batch, lanes, piece, config.data.block)


def _say(text: str) -> None:
    if dist.rank() == 0:
        say(text)
