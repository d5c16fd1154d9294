"""Opens a run: compares its folder with the config, finds the newest checkpoint, builds the network.

Initial weights are loaded only when a run starts. Once it has a checkpoint, it needs nothing but its folder and
the shards.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ccscale import checkpoint, dist
from ccscale.checkpoint import Checkpoint, Search
from ccscale.checkpoint.lock import FolderLock
from ccscale.checkpoint.permissions import check_kept
from ccscale.checkpoint.run import RunComparison, compare_run, keep_origin, open_run
from ccscale.config import Config
from ccscale.engine.adapter import Engine
from ccscale.engine.build import build_engine
from ccscale.engine.parameter_groups import parameter_groups, parameter_names
from ccscale.errors import InputError
from ccscale.features.store import Features
from ccscale.features.store_config import read_backbone
from ccscale.model.export import frozen_of, read_settings
from ccscale.model.frozen_file import FILE, check_frozen, read_frozen, write_frozen
from ccscale.model.network import ContrastiveClustering
from ccscale.train.boost.stage import KEY
from ccscale.train.first_heads import prepare_heads
from ccscale.train.start import begin_with


@dataclass(frozen=True)
class Opening:
    """A run that is about to train, or to go on."""

    config: Config
    """As it is asked for now, but for the origin of its weights, which stays what it was."""
    begun: bool
    """Whether it was begun before."""
    found: Search
    """Its newest checkpoint, if it has one."""
    network: ContrastiveClustering
    """The same on all ranks; what the checkpoint holds is still to be loaded."""
    frozen: str | None = None
    """SHA-256 of the file in the run's folder with what is frozen of the network; None where nothing is."""


def open_training(
    config: Config,
    data_digest: str,
    lock: FolderLock,
    features: Features | None = None,
    device: torch.device | None = None,
) -> Opening:
    """Open a run's folder, or make it; all ranks call it together.

    Parameters
    ----------
    config, data_digest
        As for `compare_run`.
    lock
        Of the run's folder: taken before its checkpoints are searched for.
    features
        The store that it is trained on: then its network has no backbone.
    device
        Where its heads are fitted to the clusters that they begin from; the CPU by default.

    Raises
    ------
    InputError
        If the folder holds another run, another process writes it, no checkpoint of it is complete, others could
        write what is saved there, or the network cannot be built: then nothing was written.
    """
    standing = dist.on_rank_zero(lambda: compare_run(config, data_digest))
    if standing.begun:
        dist.on_rank_zero(lock.take)
    found = dist.on_rank_zero(lambda: checkpoint.find(config.run_folder, pickles=True))
    dist.on_rank_zero(lambda: check_kept(config.run_folder))  # hours before a resume would find out
    saved = found.newest is not None
    if saved:
        config = keep_origin(config, standing)
    torch.manual_seed(config.seed)  # the same weights on every rank
    width = None if features is None else features.width
    if not saved and config.train.start is not None:
        network = begin_with(config.train.start, config, width)
    else:
        model = config.model.bare if saved else config.model
        network = dist.together(lambda: ContrastiveClustering(model, config.views.size, width))
    network.begin_training(config.loss)
    dist.together(lambda: standing.check(network))
    dist.together(lambda: parameter_groups(config, network))  # what is refused there is refused now
    if saved:
        _tell(standing)
    # What is refused above leaves no folder.
    begun = dist.on_rank_zero(lambda: open_run(config, data_digest, lock.take))
    if not saved and config.train.start is None and features is not None:
        prepare_heads(network, features, config, device)
    if features is None:
        frozen = _keep_frozen(config, network, found.newest)
    else:
        frozen = dist.on_rank_zero(lambda: keep_backbone(config.run_folder, features, found.newest))
    return Opening(config, begun, found, network, frozen)


def keep_backbone(run: Path, features: Features, newest: Checkpoint | None) -> str | None:
    """Keep the backbone of a feature store in the folder of a run, so that its network is whole; return its hash.

    None for a store that has none.
    """
    if newest is not None:
        sha256 = read_settings(newest.path)[2].get("frozen")
        return sha256 if sha256 is None else check_frozen(run, sha256)
    if (weights := read_backbone(features)) is None:
        return None
    return write_frozen(run, {f"backbone.{name}": value for name, value in weights.items()})


def _keep_frozen(config: Config, network: ContrastiveClustering, newest: Checkpoint | None) -> str | None:
    """Write what is frozen of a network that begins, read it into one that goes on; return the file's hash."""
    names, run = network.frozen_names, config.run_folder
    if not names:
        return None
    if newest is None:
        weights = network.state_dict()
        return dist.on_rank_zero(lambda: write_frozen(run, {name: weights[name] for name in sorted(names)}))
    path = newest.path

    def read() -> str:
        sha256 = frozen_of(path)
        tensors = read_frozen(run, sha256)
        own = network.state_dict()
        if tensors.keys() != names or any(own[name].shape != tensors[name].shape for name in names):
            raise InputError(
                f"{run / FILE} does not hold what is frozen of '{config.model.backbone}' here: another release of "
                "timm names or groups its tensors otherwise; use the one that the run was begun with"
            )
        network.load_state_dict(tensors, strict=False)
        return sha256

    return dist.together(read)


def restore(
    opening: Opening, device: torch.device, stop: int | None = None
) -> tuple[Engine, int, dict[str, Any]]:
    """Build the engine and load the newest checkpoint; return engine, step and what was saved beside them.

    All ranks call it together.

    Parameters
    ----------
    opening
        Of the run.
    device
        Of this rank.
    stop
        Steps that there will be. Where some are left and the newest checkpoint says that a stage has made it worse,
        weights and optimizer are those of the one that serves in its place.
    """
    config, newest = opening.config, opening.found.newest
    if newest is None:
        return build_engine(config, opening.network, device), 0, {"bad": []}
    if newest.serves is not None and stop is not None and newest.step < stop:
        state = checkpoint.read_state(newest)
        if state.get(KEY, {}).get("ended"):
            source = dist.on_rank_zero(lambda: checkpoint.serving(config.run_folder, newest, pickles=True))
            dist.say(f"without self-labelling, from what serves: the checkpoint of step {source.step}")
            return _load(opening, device, source)[0], newest.step, state
    engine, state = _load(opening, device, newest)
    return engine, newest.step, state


def _load(opening: Opening, device: torch.device, source: Checkpoint) -> tuple[Engine, dict[str, Any]]:
    """Build the engine with the weights and optimizer state of a checkpoint, and return what was saved beside."""
    config, network, universal = opening.config, opening.network, None
    if checkpoint.needs_universal(source, config):
        ranks, zero = dist.world(), config.train.zero
        ways = [f"{source.world} to {ranks} ranks"] if source.world != ranks else []
        ways += [f"ZeRO {source.zero} to {zero}"] if source.zero != zero else []
        dist.say(f"converting {source.path.name} from {' and from '.join(ways)}")
        names = parameter_names(config, network)
        universal = dist.on_rank_zero(lambda: checkpoint.make_universal(source, names))
    engine = build_engine(config, network, device, universal=universal is not None)
    return engine, checkpoint.load(engine, source, universal)


def _tell(standing: RunComparison) -> None:
    for change in standing.changes:
        if change.is_of_origin:
            dist.say(f"{change}: ignored, since the run resumes from its checkpoint")
        else:
            dist.say(f"{change}: this affects memory and rounding only")
