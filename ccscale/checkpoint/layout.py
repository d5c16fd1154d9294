"""Paths of the checkpoints of a run; see the package."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccscale.config import Config

FOLDER, STAGING, UNIVERSAL = "checkpoints", ".staging", "universal"
TAG = "deepspeed"
"""The subfolder of DeepSpeed's files, which it looks for by their names."""


@dataclass(frozen=True)
class Places:
    """Paths of the checkpoint of a step, while it is made and afterwards."""

    folder: Path
    staging: Path
    final: Path

    @classmethod
    def of(cls, config: Config, step: int) -> "Places":
        """Return the places in the run of a config."""
        folder = config.run_folder / FOLDER
        return cls(folder, step_folder(folder / STAGING, step), step_folder(folder, step))


def steps(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints' folders, newest first, complete or not."""
    if folder.is_dir():
        yield from sorted(folder.glob("step-*"), reverse=True)


def step_folder(folder: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"
