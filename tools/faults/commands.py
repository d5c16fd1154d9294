"""What `kill_often.py` can kill: the command, what it has done so far, and what must be the same at its end."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from living import clusters_and_tables, is_under_way, what_lives

Facts = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What is killed, and how it is looked at.

    Attributes
    ----------
    verb
        Of ``ccscale``.
    options
        The arguments that put what it makes into a folder.
    first
        A pattern of the file that is there when its work has begun.
    facts
        What must not differ from the unbroken run's, by name.
    state
        What is there at a moment.
    watched
        Whether it is a run that `UnderWay` understands.
    under_way
        Of what is done in steps: whether one is under way, so many steps after some.
    """

    verb: tuple[str, ...]
    options: Callable[[Path], list[str]]
    first: str
    facts: Callable[[Path], Facts]
    state: Callable[[Path], dict[str, Any]]
    watched: bool = False
    under_way: Callable[[Path, int, int], bool] | None = None


def compare(expected: Facts, found: Facts, tolerance: float) -> tuple[list[str], float]:
    """Compare facts with the unbroken run's.

    Returns
    -------
    different, worst
        Names of those that differ; the largest relative difference of two numbers. With a tolerance numbers may
        differ by so much, and of other facts it is only asked that they are there.
    """
    different, worst = [], 0.0
    for name in sorted(expected | found):
        old, new = expected.get(name), found.get(name)
        if old == new:
            continue
        if old is None or new is None:
            different.append(name)
        elif isinstance(old, dict):
            apart = {key: abs(new[key] - old[key]) / abs(old[key]) for key in old if key != "batch_digest"}
            worst = max(worst, *apart.values())
            if old["batch_digest"] != new["batch_digest"] or not max(apart.values()) <= tolerance:
                different.append(name)
        elif not tolerance:
            different.append(name)
    return different, worst


def what_is_converted(out: Path) -> dict[str, Any]:
    """Return how far a conversion has come."""
    names = [path.name for path in out.rglob("*") if path.is_file()]
    return {
        "shards": sum(name.endswith(".tar") for name in names),
        "hashes": sum(name.startswith("hashes-") for name in names),
        "unfinished": sum(name.endswith(".part") for name in names),
        "manifest": "dataset.json" in names,
    }


def what_is_embedded(store: Path) -> dict[str, Any]:
    """Return how far a store has come."""
    names = [path.name for path in store.rglob("*") if path.is_file()]
    searches = any(name.endswith(".npz") for name in names)
    return {
        "at": "neighbours" if searches else "embedding",
        "parts": sum(name.endswith(".npz") for name in names) or len(list(store.glob("parts/*.arrow"))),
        "files": len(list(store.glob("*.arrow"))),
        "unfinished": sum(name.endswith(".part") for name in names),
    }


def what_is_trained(run: Path) -> dict[str, Any]:
    """Return how far a run has come."""
    metrics = run / "metrics.jsonl"
    saved = sorted(path.name for path in run.glob("checkpoints/step-*") if path.is_dir())
    return {
        "lines": len(metrics.read_bytes().splitlines()) if metrics.exists() else 0,
        "newest": saved[-1] if saved else "none",
    }


def steps_and_weights(run: Path) -> Facts:
    """Return what identifies a run: batch and losses of every step, the hash of its last weights."""
    found: Facts = {}
    for record in _records(run):
        if record["kind"] == "step":
            names = ("batch_digest", "loss", "instance_loss", "cluster_loss")
            found[f"step {record['step']}"] = {name: record[name] for name in names}
        else:
            names = ("nmi", "acc", "ari", "sizes")
            found[f"evaluation {record['step']}"] = repr([record.get(name) for name in names])
    weights = sorted(run.glob("checkpoints/step-*/**/model.safetensors"))[-1]
    return found | {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}


def evaluated_steps(run: Path) -> set[int]:
    """Return the steps of a run that an evaluation followed."""
    return {record["step"] for record in _records(run) if record["kind"] == "evaluation"}


def _records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def digests(folder: Path) -> Facts:
    """Return the SHA-256 of every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


COMMANDS = {
    "living": Command(
        (), lambda out: [str(out)], "steps.json", clusters_and_tables, what_lives, under_way=is_under_way
    ),
    "conversion": Command(("shards", "make"), lambda out: [str(out)], "*.tar*", digests, what_is_converted),
    "embedding": Command(("embed",), lambda out: [str(out)], "features.json", digests, what_is_embedded),
    "training": Command(
        ("train",),
        # The unbroken run has a cache of its own, or the killed one would never read from the server.
        lambda run: [f"run={run}", f"data.cache={run}-cache", "train.log_every=1", "train.rank_timeout=10"],
        "metrics.jsonl",
        steps_and_weights,
        what_is_trained,
        watched=True,
    ),
}
