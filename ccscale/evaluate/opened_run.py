"""Opens a run or an exported network, and the images, for ``evaluate`` and ``predict``."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccscale import checkpoint, dist
from ccscale.checkpoint import Checkpoint
from ccscale.checkpoint.intake_files import read_intakes
from ccscale.checkpoint.run import read_facts, read_run
from ccscale.config import Config, Data, Views
from ccscale.data.loader import default_workers
from ccscale.data.shards.manifest import Manifest
from ccscale.device import float32_products, pick_device
from ccscale.errors import InputError
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.notes import no_choice, other_data
from ccscale.features.store import Features
from ccscale.model.export import CONFIG, is_export, load, read_settings
from ccscale.model.network import ContrastiveClustering
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment


@dataclass(frozen=True)
class OpenedRun:
    """A run that is examined: its config, one of its checkpoints, the network; how many loader processes read.

    Of an exported network the folder stands in for the checkpoint, and its config has no run.
    """

    config: Config
    checkpoint: Checkpoint
    network: ContrastiveClustering
    workers: int

    def width(self, features: str) -> int:
        """Return the width of the backbone's features (``backbone``) or the embeddings (``instance``)."""
        settings = self.config.model
        return self.network.width if features == "backbone" else settings.embedding

    def notes(self, manifest: Manifest) -> list[str]:
        """Return a sentence if a data set is not the one that the run was trained on."""
        if self.config.run is None:  # nothing tells which shards an exported network has seen
            return []
        facts = json.loads((self.checkpoint.path / CONFIG).read_text(encoding="utf-8"))
        splits = self.config.data.splits
        trained = read_facts(self.config.run_folder)["data"].partition("/")[0]
        same = set(splits) <= set(manifest.splits) and manifest.digest(splits) == trained
        if set(splits) <= set(manifest.splits) and (kept := read_intakes(self.config.run_folder)) is not None:
            same = kept.intakes.until(self.checkpoint.step).are_of(manifest, splits)
        unchosen = [] if self.checkpoint.heads else no_choice(self.config.model)
        return [*unchosen, *other_data(manifest.name, facts.get("data"), same)]


def run_and_checkpoint(run: str | Path, which: str = "last") -> tuple[Config, Checkpoint]:
    """Return a run's config and one of its complete checkpoints, naming those that were passed over.

    Which one is told as to `checkpoint.choose`; by default the newest.

    Raises
    ------
    InputError
        If it is no run, or has no complete checkpoint.
    """
    config = read_run(run)
    found = checkpoint.choose(config.run_folder, which)
    for reason in found.passed_over:
        say(f"skipped a checkpoint: {reason}")
    if found.newest is None:
        raise InputError(f"the run {run} has no checkpoint yet; run `ccscale train` first")
    return config, found.newest


def settings_and_export(folder: Path, which: str = "last") -> tuple[Config, Checkpoint]:
    """Return what stands in for the config and the checkpoint of an exported network's run.

    Raises
    ------
    InputError
        If it cannot be read, or another step than its own is requested.
    """
    if which != "last":
        raise InputError(f"{folder} is an exported network, which has no checkpoints: leave out --checkpoint")
    settings, image, facts = read_settings(folder)
    # It stands in, and is not checked as a run's is: there are no data in which centres could be found.
    config = Config.model_construct(data=Data(shards=""), model=settings, views=Views(**image))
    return config, Checkpoint(folder, facts.get("step", 0), world=1, heads=tuple(facts.get("heads", ())))


@contextmanager
def open_run(
    run: str | Path,
    device: str = "auto",
    workers: int | None = None,
    which: str = "last",
    request: StopRequest | None = None,
    exports: bool = False,
    heads_alone: bool = False,
    clusters: int | None = None,
) -> Iterator[OpenedRun]:
    """Join the ranks and load the network of a run's checkpoint, for the length of the context.

    The folder of an exported network is opened too, by those who take one (`settings_and_export`). Waiting for the
    other ranks ends with a request. Of a run on a feature store its backbone can be left out (`load`). Of several
    cluster heads the chosen one serves, of `clusters` clusters if that is requested. On a GPU
    `train.tf32` counts as it did in the run.

    Raises
    ------
    InputError
        As `run_and_checkpoint` does, or for a device that is not there.
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}: give 0 (no extra processes) or more")
    env = RankEnvironment.read()
    where = pick_device(device, env.local_rank)
    with process_group(env, where, None if request is None else request.at_once()):
        find = settings_and_export if exports and is_export(Path(run)) else run_and_checkpoint
        config, found = dist.on_rank_zero(lambda: find(Path(run), which))
        network = dist.together(lambda: load(found.path, where, heads_alone=heads_alone))
        if config.run is not None or clusters is not None:  # an exported network knows which head serves
            network.serve(dist.together(lambda: serving_head(config.model, found.heads, clusters)))
        workers = default_workers(env.local_world) if workers is None else workers
        with float32_products(where, config.train.tf32):
            yield OpenedRun(config, found, network, workers)


def open_own_data(
    config: Config, splits: Sequence[str] | None
) -> tuple[Manifest, tuple[str, ...], Features | None]:
    """Return a run's own data and the splits asked for, by default those of its config; and its feature store.

    Raises
    ------
    InputError
        As `open_shards` does, or if the store is not there.
    """
    splits = tuple(splits or config.evaluated_splits)
    place = config.data.features
    if place is None:
        return *open_shards(config.data.place, splits), None
    features = dist.on_rank_zero(lambda: Features(place, splits))
    return features.whole.manifest, splits, features


def open_shards(shards: str, splits: Sequence[str] | None) -> tuple[Manifest, tuple[str, ...]]:
    """Return a data set, its files checked, and the splits asked for (all by default); see `Manifest.load`.

    Raises
    ------
    InputError
        If there is none, it lacks a split, or a file is missing.
    """

    def check() -> Manifest:
        manifest = Manifest.load(shards)
        manifest.check_files(splits or manifest.splits)
        return manifest

    manifest = dist.on_rank_zero(check)
    return manifest, tuple(splits or manifest.splits)
