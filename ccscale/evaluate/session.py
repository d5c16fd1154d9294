"""What ``evaluate``, ``predict`` and ``export`` begin with: the newest network of a run, on its device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccscale import dist
from ccscale.config import Config
from ccscale.data.access import Access
from ccscale.data.manifest import Manifest
from ccscale.data.stream import default_workers
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assignments, assign
from ccscale.model.export import load
from ccscale.model.network import ContrastiveClustering
from ccscale.place import Place
from ccscale.progress import say
from ccscale.train import checkpoint
from ccscale.train.checkpoint import Checkpoint
from ccscale.train.run import read_run


@dataclass(frozen=True)
class Session:
    """A run that is looked at: its config, its newest checkpoint, its network."""

    config: Config
    checkpoint: Checkpoint
    network: ContrastiveClustering
    workers: int

    def assign(self, manifest: Manifest, splits: Sequence[str], features: bool = False) -> Assignments | None:
        """Assign every sample of some splits; see `evaluate.assign.assign`."""
        return assign(
            self.network,
            manifest,
            splits,
            batch=self.config.evaluate.batch,
            scaled_decode=self.config.views.scaled_decode,
            workers=self.workers,
            features=features,
            access=Access.of(self.config.data),
        )


def newest(run: str | Path) -> tuple[Config, Checkpoint]:
    """Return a run's config and its newest complete checkpoint, naming those that were passed over.

    Raises
    ------
    InputError
        If it is no run, or has no complete checkpoint.
    """
    config = read_run(run)
    found = checkpoint.find(config.run_folder)
    for reason in found.passed_over:
        say(f"passed over a checkpoint: {reason}")
    if found.newest is None:
        raise InputError(f"the run {run} has no checkpoint yet; train it first with `ccscale train`")
    return config, found.newest


@contextmanager
def open_session(run: str | Path, device: str = "auto", workers: int | None = None) -> Iterator[Session]:
    """Join the ranks and load a run's newest network; for the length of the context.

    Raises
    ------
    InputError
        As `newest` does, or for a device that is not there.
    """
    place = Place.from_environment()
    where = dist.pick_device(device, place.local_rank)
    with dist.process_group(place, where):
        config, found = dist.on_rank_zero(lambda: newest(run))
        network = dist.together(lambda: load(found.path, where))
        yield Session(
            config, found, network, default_workers(place.local_world) if workers is None else workers
        )


def open_shards(
    shards: str, splits: Sequence[str] | None, allow_pipe: bool = False
) -> tuple[Manifest, tuple[str, ...]]:
    """Return a data set, its files checked, and the splits asked for (all by default); see `Manifest.load`.

    Raises
    ------
    InputError
        If there is none, it lacks a split, or a file is missing.
    """

    def check() -> Manifest:
        manifest = Manifest.load(shards, allow_pipe)
        manifest.check_files(splits or manifest.splits)
        return manifest

    manifest = dist.on_rank_zero(check)
    return manifest, tuple(splits or manifest.splits)
