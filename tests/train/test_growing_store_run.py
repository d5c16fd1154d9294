"""A run on a feature store that grows, with self-labelling behind it: new images get their labels, too."""

import contextlib
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import small_settings, write_config
from harness.stores import make_store
from runs import difference, steps

from ccscale.checkpoint import find
from ccscale.config.file import parse_config
from ccscale.features.listing import read_listing
from ccscale.train.log import RunLog
from ccscale.train.train import train_run

NOTE = RunLog.step

GROWTH = {2: 3, 5: 4}
"""Step to the number of listed shards of 32 rows; there are 2 at first, 4 steps an epoch."""


def settings_of(store: Path, run: Path) -> dict:
    train = {"train__global_batch": 16, "train__epochs": 1, "train__save_every": 1}
    settings = small_settings(Path(), run, **train)
    settings |= {"data": {"features": str(store), "refresh": "epoch"}, "views": {}, "model": {"clusters": 4}}
    return settings | {"stages": {"boost": {"epochs": 2, "threshold": 0.26, "check_epochs": 1, "settled": 0}}}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    views = [
        rng.normal(size=(128, 16)).astype(np.float32) + 3 * np.eye(16, dtype=np.float32)[np.arange(128) % 4]
    ]
    views += [views[0] + rng.normal(size=(128, 16)).astype(np.float32) / 4 for _ in range(2)]
    return make_store(tmp_path_factory.mktemp("store") / "store", views, shards=4).folder


def begin(store: Path, place: Path) -> Path:
    """Return a copy that lists its first two shards."""
    shutil.copytree(store, place)
    show(place, store, 2)
    return place


def show(place: Path, store: Path, count: int) -> None:
    whole = read_listing(store)
    if len(read_listing(place).files) in (len(whole.files), *range(count)):
        whole.changed(files=whole.files[:count], complete=count % 2 == 0).save(
            place
        )  # while more is made, too


class Killed(BaseException):
    """Ends a run in the middle of what it is at."""


def take_steps(store: Path, place: Path, run: Path, killed_after: int | None = None) -> None:
    """Go on with a run whose store grows as `GROWTH` says, perhaps until it is killed."""

    def noted(log: RunLog, record: dict[str, Any]) -> dict[str, Any]:
        line = NOTE(log, record)
        if record["step"] in GROWTH:
            show(place, store, GROWTH[record["step"]])
        if record["step"] == killed_after:
            raise Killed
        return line

    with (
        mock.patch.object(RunLog, "step", noted),
        pytest.raises(Killed) if killed_after is not None else contextlib.nullcontext(),
    ):
        assert train_run(parse_config(settings_of(place, run))).finished


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit_through_its_self_labelling(store, tmp_path, capfd):
    take_steps(store, begin(store, tmp_path / "whole"), tmp_path / "a")
    said = capfd.readouterr().err
    assert "step 4: took in 1 new shard of 32 images; 96 images from here on, 6 steps an epoch" in said
    assert "step 10: took in 1 new shard of 32 images; 128 images from here on, 8 steps an epoch" in said
    place = begin(store, tmp_path / "parts")
    for killed_after in (4, 10, 13, None):  # what was decided in the step that is lost stays decided
        take_steps(store, place, tmp_path / "b", killed_after)
        show(place, store, 4)
    whole, parts = steps(tmp_path / "a"), steps(tmp_path / "b")
    assert len(whole) == 4 + 6 + 8
    assert difference(parts, whole) == (True, 0)
    ours, others = remembered(tmp_path / "a"), remembered(tmp_path / "b")
    assert all(torch.equal(ours[name], others[name]) for name in ("labels", "clusters", "before"))
    assert len(ours["labels"]) == 128
    assert int((ours["labels"][96:] >= 0).sum()) > 0
    assert int((ours["before"] >= 0).sum()) == 96  # those that came later have no cluster from before


def remembered(run: Path) -> dict[str, Any]:
    """Return what the newest checkpoint keeps of the self-labelling."""
    newest = find(run).newest
    assert newest is not None
    file = newest.path / "deepspeed" / "mp_rank_00_model_states.pt"
    kept: dict[str, Any] = torch.load(file, weights_only=False)["ccscale"]["boost"]
    return kept


def test_a_store_that_was_made_anew_is_refused(store, tmp_path, refused, capsys):
    place = begin(store, tmp_path / "store")
    config = write_config(tmp_path, settings_of(place, tmp_path / "run"))
    take_steps(store, place, tmp_path / "run", killed_after=2)
    capsys.readouterr()
    whole = read_listing(store)
    whole.changed(files=whole.files[1:]).save(place)
    assert f"no longer has the features of {whole.files[0].shard.url}" in refused("train", config)
    other = whole.files[0].model_copy(update={"sha256": "f" * 64})
    whole.changed(files=(other, *whole.files[1:])).save(place)
    assert f"{other.shard.url} has changed since the run took it in" in refused("train", config)
