"""Shards that come one after the other into a folder, while something trains on it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ccscale.data.shards.manifest import Manifest
from ccscale.train.log import RunLog


def show(shards: Path, place: Path, count: int) -> None:
    """Let a folder list the first `count` of the shards in another one, unless it lists more already."""
    whole = Manifest.load(shards)
    if (place / "dataset.json").exists() and len(Manifest.load(place).shards) >= count:
        return
    place.mkdir(exist_ok=True)
    listed = whole.shards[:count]
    for shard in listed:
        for path in shards.glob(shard.url.replace(".tar", ".*")):
            if not (place / path.name).exists():
                shutil.copy(path, place / path.name)
    sizes = {shard.split: 0 for shard in listed}
    for shard in listed:
        sizes[shard.split] += shard.nsamples
    replace(whole, root=str(place), shards=listed, labelled=sizes).save()


def after_steps(shards: Path, place: Path, counts: Mapping[int, int]) -> Callable[[], None]:
    """Return what lets the process that calls it show more shards, by the steps of a run that were taken."""
    return partial(_listen, shards, place, dict(counts))


def _listen(shards: Path, place: Path, counts: dict[int, int]) -> None:
    note = RunLog.step

    def noted(log: RunLog, record: dict[str, Any]) -> dict[str, Any]:
        line = note(log, record)
        if log._write and record["step"] in counts:
            show(shards, place, counts[record["step"]])
        return line

    RunLog.step = noted  # type: ignore[method-assign]
