"""Checkpoints: staged, verified, committed, retained; found again and loaded at any number of ranks.

On disk, below the run's folder::

    checkpoints/
      .staging/                 being written; no reader looks here
      step-00001000/
        deepspeed/              what DeepSpeed saves and loads: weights, optimizer, our state (pickles)
        model.safetensors       the network for everybody else: evaluate, predict, export
        config.json
        COMMIT.json             written last: step, ranks, and size and SHA-256 of every file
      universal/step-00001000/  the same in DeepSpeed's universal format, made for another number of ranks

A checkpoint is complete if and only if its COMMIT.json is there and the hashes in it hold. It is written beside its
final name, flushed to the disk and read again for the hashes, then renamed; the marker is last.

Pickles can run code when they are loaded: only the run's own are.
"""

import hashlib
import json
import os
import shutil
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ccscale import atomic, dist
from ccscale.config import Config
from ccscale.errors import InputError
from ccscale.model.export import export

FOLDER = "checkpoints"
MARKER = "COMMIT.json"
TAG = "deepspeed"
_STAGING = ".staging"
_UNIVERSAL = "universal"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, its hashes verified."""

    path: Path
    step: int
    """Steps that were done when it was saved."""
    world: int
    """Number of ranks that saved it."""


@dataclass(frozen=True)
class Search:
    """What was found in a run's folder."""

    newest: Checkpoint | None
    """The newest complete one."""
    passed_over: tuple[str, ...]
    """A sentence for each newer one that is not complete."""


def save(engine: Any, config: Config, step: int, state: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Save a checkpoint; all ranks call it together.

    Parameters
    ----------
    engine
        The DeepSpeed engine.
    config
        The run's config.
    step
        Steps done.
    state
        What a resume needs beside weights and optimizer.
    facts
        Goes into the exported network's config.

    Returns
    -------
    Path
        The checkpoint's folder.
    """
    folder = config.run_folder / FOLDER
    staging, final = folder / _STAGING, folder / f"step-{step:08d}"
    dist.on_rank_zero(lambda: _empty(staging))
    # DeepSpeed lets the client's keys overwrite its own: ours are one. The other key is its converter's wish.
    client = {"ccscale": {"step": step, **state}, "universal_checkpoint_info": {}}
    engine.save_checkpoint(str(staging), tag=TAG, client_state=client, save_latest=False)

    def commit() -> None:
        export(staging, config.model, config.views, engine.module.state_dict(), facts)
        files = _hash_files(staging, flush=True)
        if final.exists():  # one that was found damaged: a complete one would have been gone on from
            shutil.rmtree(final)
        staging.rename(final)
        atomic.sync_folder(folder)
        marker = {"step": step, "world": dist.world(), "zero": config.train.zero, "files": files}
        atomic.write_bytes(final / MARKER, json.dumps(marker, indent=1).encode())
        _retain(folder, config.train.keep_last)

    dist.on_rank_zero(commit)
    return final


def find(run: Path) -> Search:
    """Find a run's newest complete checkpoint, verifying hashes from the newest one backwards.

    Raises
    ------
    InputError
        If there are checkpoints and none of them is complete: a run never begins anew in silence.
    """
    passed_over: list[str] = []
    for path in _steps(run / FOLDER):
        try:
            return Search(_verify(path), tuple(passed_over))
        except InputError as error:
            passed_over.append(str(error))
    if passed_over:
        raise InputError(
            f"no checkpoint in {run / FOLDER} is complete: {'; '.join(passed_over)}; "
            "restore one, or delete the folder to begin anew"
        )
    return Search(None, ())


def load(engine: Any, checkpoint: Checkpoint, universal: Path | None) -> dict[str, Any]:
    """Load weights, optimizer and batch-norm statistics into the engine; return the state that was saved.

    Parameters
    ----------
    engine
        The DeepSpeed engine, built for the universal format where `universal` is given.
    checkpoint
        What `find` found.
    universal
        What `make_universal` made of it.
    """
    source = universal or checkpoint.path
    path, client = engine.load_checkpoint(str(source), tag=TAG)
    if path is None:  # DeepSpeed warns and goes on from nothing
        raise RuntimeError(f"DeepSpeed found no checkpoint in {source}")
    return client["ccscale"]


def needs_universal(checkpoint: Checkpoint, config: Config) -> bool:
    """Tell whether it must be converted: ZeRO's parts were made for another number of ranks."""
    return config.train.zero > 0 and checkpoint.world != dist.world()


def make_universal(checkpoint: Checkpoint) -> Path:
    """Convert a checkpoint to DeepSpeed's universal format, beside the checkpoints; once, on one rank.

    Returns
    -------
    Path
        A folder that `load` takes.
    """
    folder = checkpoint.path.parent / _UNIVERSAL
    final = folder / checkpoint.path.name
    if (final / MARKER).exists():
        return final
    from deepspeed.checkpoint.ds_to_universal import main as convert

    staging = folder / _STAGING
    _empty(staging)
    options = Namespace(
        input_folder=str(checkpoint.path / TAG),
        output_folder=str(staging / TAG),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it shows its arguments and two bars
        convert(options)
    shutil.rmtree(final, ignore_errors=True)
    staging.rename(final)
    atomic.write_bytes(final / MARKER, b"{}")
    return final


def _steps(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints' folders, newest first, complete or not."""
    if folder.is_dir():
        yield from sorted(folder.glob("step-*"), reverse=True)


def _verify(path: Path) -> Checkpoint:
    """Check a checkpoint's marker and hashes.

    Raises
    ------
    InputError
        That says what is wrong with it.
    """
    try:
        marker = json.loads((path / MARKER).read_bytes())
        expected, step, world = marker["files"], int(marker["step"]), int(marker["world"])
    except FileNotFoundError:
        raise InputError(f"{path.name} has no {MARKER}: its saving was cut off") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the {MARKER} of {path.name} cannot be read ({error})") from None
    found = _hash_files(path, flush=False)
    for name, facts in expected.items():
        if name not in found:
            raise InputError(f"{path.name} lacks the file {name}")
        if found[name] != facts:
            raise InputError(f"the file {name} of {path.name} was changed or damaged: its hash is another")
    return Checkpoint(path, step, world)


def _hash_files(folder: Path, flush: bool) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below `folder` but the marker; flush them to the disk first."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)

    def facts(path: Path) -> dict[str, Any]:
        with open(path, "rb") as file:
            if flush:
                os.fsync(file.fileno())
            return {
                "bytes": os.fstat(file.fileno()).st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }

    with ThreadPoolExecutor(max_workers=4) as pool:
        return {
            str(path.relative_to(folder)): result
            for path, result in zip(paths, pool.map(facts, paths), strict=True)
        }


def _retain(folder: Path, keep: int) -> None:
    """Delete all but the `keep` newest checkpoints that have a marker, and what was left half-written."""
    complete = [path for path in _steps(folder) if (path / MARKER).exists()]
    for path in complete[keep:]:
        (path / MARKER).unlink()  # so that a deletion that is cut off leaves no marker without its files
        shutil.rmtree(path)
    kept = {path.name for path in complete[:keep]}
    for path in (folder / _UNIVERSAL).glob("*"):
        if path.name not in kept:
            shutil.rmtree(path)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
