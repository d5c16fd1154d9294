"""The folder of a run: created once, and protected from the settings of another run.

::

    config.yaml      the resolved config
    run.json         {"version": 1, "data": digest of the data, "versions": {...} of the packages}
    .lock            the process that writes here (`lock.py`)
    frozen.safetensors          the frozen part of the network (`model/frozen_file.py`)
    metrics.jsonl    tensorboard/    checkpoints/
"""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ccscale import atomic
from ccscale.checkpoint.lock import is_lock
from ccscale.checkpoint.permissions import PROBE
from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys
from ccscale.config.section import MayChange
from ccscale.errors import InputError, check_version
from ccscale.model.norm import has_batch_norm

CONFIG = "config.yaml"
FACTS = "run.json"
VERSION = 1  # of its format; runs of 0.1's first weeks tell none and are of the same
_BEGUN = {CONFIG, f"{CONFIG}.part", f"{FACTS}.part"}
"""What a start that is cut off leaves, beside its lock."""
PACKAGES = ("ccscale", "torch", "torchvision", "deepspeed", "timm", "webdataset", "numpy", "pillow")

MAY_CHANGE = {key.name: key.may_change for key in describe_keys()}


class Change(NamedTuple):
    """A key that has changed since the last start of the run."""

    key: str
    old: Any
    new: Any

    @property
    def is_of_origin(self) -> bool:
        """Whether the key says where the weights came from."""
        return MAY_CHANGE[self.key] is MayChange.ORIGIN

    def __str__(self) -> str:
        return f"{self.key} was {self.old!r} and is now {self.new!r}"


@dataclass(frozen=True)
class RunComparison:
    """A run's folder, compared with the requested config."""

    begun: bool
    """Whether it holds this run, begun before."""
    changes: tuple[Change, ...] = ()
    """The origin of the weights and what changes rounding alone, where they have changed."""
    folder: str = ""

    def check(self, network: nn.Module) -> None:
        """Check that the changes do not affect the computation of a step.

        Raises
        ------
        InputError
            For another `train.micro_batch` of a network with batch norm.
        """
        for change in self.changes:
            if change.key == "train.micro_batch" and has_batch_norm(network):
                raise _another_run(
                    self.folder,
                    [f"{change}, and the backbone's batch norm takes its statistics over so many images"],
                )


def compare_run(config: Config, data_digest: str) -> RunComparison:
    """Check that a run's folder is to be made, or belongs to this run; on one rank. Nothing is written.

    Parameters
    ----------
    config
        The config as it is requested now.
    data_digest
        `Manifest.digest` of the splits trained on; on a feature store, and that of its content behind a slash.

    Raises
    ------
    InputError
        If the folder holds another run, naming what differs, or something else.
    """
    folder = config.run_folder
    if (folder / FACTS).exists():
        before = load_config(folder / CONFIG)
        facts = read_facts(folder)
        fixed = {MayChange.NO}
        if _from_nothing(before) and not _from_nothing(config):
            fixed |= {MayChange.ORIGIN}
        changes = _compare(before, config)
        different = [str(change) for change in changes if MAY_CHANGE[change.key] in fixed]
        if config.train.rate_depends_on_length:
            different += _other_length(before, config)
        elif before.stages.boost.epochs and before.train.epochs != config.train.epochs:
            change = Change("train.epochs", before.train.epochs, config.train.epochs)
            different.append(f"{change}, and stages.boost begins after them")
        if facts["data"] != data_digest:
            different.append(f"the data in {config.data.place} are not the ones it was begun with")
        if different:
            raise _another_run(folder, different)
        return RunComparison(True, tuple(changes), str(folder))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"run: {folder} is a file; give a folder")
    if folder.is_dir() and any(not _is_of_a_start(entry.name) for entry in folder.iterdir()):
        raise InputError(f"{folder} is neither empty nor the folder of a run; choose another one (run=DIR)")
    return RunComparison(False)


def _another_run(folder: str | Path, different: list[str]) -> InputError:
    return InputError(
        f"{folder} contains a run with other settings: {'; '.join(different)}; use another folder "
        "(run=DIR), or the old settings"
    )


def keep_origin(config: Config, standing: RunComparison) -> Config:
    """Return the config with the original settings of where the weights came from."""
    for key, old, _ in (change for change in standing.changes if change.is_of_origin):
        section, _, name = key.partition(".")
        changed = getattr(config, section).model_copy(update={name: old})
        config = config.model_copy(update={section: changed})
    return config


def open_run(config: Config, data_digest: str, take: Callable[[], None] = lambda: None) -> bool:
    """Make a run's folder, or write into the one there what may change from start to start; on one rank.

    Parameters
    ----------
    config, data_digest
        As for `compare_run`.
    take
        Takes the folder's lock: called when the folder is there, before anything is written into it.

    Returns
    -------
    bool
        Whether the run was begun before.

    Raises
    ------
    InputError
        As `compare_run` does, or if it cannot be written.
    """
    folder, before = config.run_folder, compare_run(config, data_digest).begun
    try:
        folder.mkdir(parents=True, exist_ok=True)
        take()
        begun = compare_run(config, data_digest).begun
        if begun != before:
            raise InputError(
                f"another process has meanwhile started {folder}: run the same command again to continue"
            )
        atomic.write_bytes(folder / CONFIG, config.to_yaml().encode())
        if not begun:
            facts = {"version": VERSION, "data": data_digest, "versions": versions()}
            atomic.write_bytes(folder / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    except OSError as error:
        raise InputError(f"cannot write to the run's folder {folder}: {error.strerror}") from None
    return begun


def _is_of_a_start(name: str) -> bool:
    """Return whether a start that was cut off may have left a file of this name."""
    return name in _BEGUN or is_lock(name) or name.startswith(PROBE)


def read_run(folder: str | Path) -> Config:
    """Return the config of a run's folder.

    Raises
    ------
    InputError
        If it is not the folder of a run.
    """
    folder = Path(folder)
    if not (folder / FACTS).exists():
        raise InputError(
            f"{folder} is not the folder of a run; `ccscale train CONFIG run={folder}` creates one"
        )
    read_facts(folder)  # a later release's run may have keys that this one does not know
    # A folder that was moved is the run's folder still.
    return load_config(folder / CONFIG, of_a_run=True).model_copy(update={"run": str(folder)})


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    InputError
        If it is damaged, or a later release made it.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        found = {"data": facts["data"], "versions": facts["versions"]}
        number = facts.get("version", VERSION)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / FACTS} cannot be read ({error}); restore it, or train in another folder (run=DIR)"
        ) from None
    check_version(folder / FACTS, number, VERSION)
    return found


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect a run's results."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def flat(config: Config) -> dict[str, Any]:
    """Return the value of every key, by its full name."""
    dumped = config.model_dump(mode="json")
    # Lanes and the micro-batch by default follow from the global batch: what counts is the number.
    numbers = {
        "data.lanes": config.lanes,
        "train.micro_batch": config.train.micro_batch or config.train.global_batch,
    }
    return {key: reduce(getitem, key.split("."), dumped) for key in MAY_CHANGE} | numbers


def _compare(before: Config, now: Config) -> list[Change]:
    """Return the changed keys that may not change freely; keys of a stage that the run did not have are ignored."""
    old, new = flat(before), flat(now)
    added = () if before.stages.boost.epochs else ("stages.boost.",)
    return [
        Change(key, old[key], new[key])
        for key, may in MAY_CHANGE.items()
        if old[key] != new[key] and may is not MayChange.FREELY and not key.startswith(added)
    ]


def _other_length(before: Config, now: Config) -> list[str]:
    """Return changes of the run's length, if its learning rates depend on it."""
    old, new = flat(before), flat(now)
    keys = [key for key in ("train.epochs", "train.max_steps") if old[key] != new[key]]
    if (old["data.refresh"] is None) != (new["data.refresh"] is None):  # without, epochs count too
        keys.append("data.refresh")
    why = f"and the rates of train.schedule {now.train.schedule} depend on how long the run is"
    return [f"{Change(key, old[key], new[key])}, {why}" for key in keys]


def _from_nothing(config: Config) -> bool:
    settings = flat(config)
    return not any(settings[key] for key, may in MAY_CHANGE.items() if may is MayChange.ORIGIN)
