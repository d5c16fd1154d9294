"""What a look at data that grow takes in, and what waits for a later one; nothing is trained here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import small_settings
from harness.growing_shards import show
from harness.stores import make_store

from ccscale.checkpoint.intake_files import read_intakes
from ccscale.config.file import parse_config
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.features.store import Features
from ccscale.train.run_data import RunData
from ccscale.train.run_data_watch import RunDataWatch

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def settings_of(place: Path, run: Path) -> dict[str, Any]:
    return small_settings(place, run, data__refresh="epoch")


def test_what_is_not_whole_yet_waits_and_is_told_once(shards, tmp_path, capsys):
    place, run, watch = tmp_path / "shards", tmp_path / "run", RunDataWatch()
    show(shards, place, 2)
    supply = RunData.fixed(parse_config(settings_of(place, run)), Manifest.load(place), None)
    show(shards, place, 3)
    third = place / Manifest.load(place).shards[2].url
    whole, listed = third.read_bytes(), (place / "dataset.json").read_bytes()
    third.write_bytes(whole[:-512])
    for step in (3, 6):
        supply = watch.look(supply, step)
    (place / "dataset.json").write_bytes(listed[:-9])  # as it is while others write it
    supply = watch.look(supply, 9)
    said = capsys.readouterr().err
    assert said.count("1 new shard is listed and not whole yet") == 1
    assert "the data are not looked at for now: " in said
    assert read_intakes(run).intakes == supply.intakes
    assert (len(supply.intakes.shards), supply.intakes.looked) == (2, 9)
    third.write_bytes(whole)
    (place / "dataset.json").write_bytes(listed)
    supply = watch.look(supply, 12)
    assert [intake.step for intake in supply.intakes.intakes] == [0, 12]
    assert read_intakes(run).intakes == supply.intakes


def test_a_store_of_another_kind_is_refused(tmp_path):
    store = make_store(tmp_path / "store", [ROWS] * 3)
    settings = settings_of(tmp_path, tmp_path / "run")
    settings |= {"data": {"features": str(store.folder), "refresh": "epoch"}, "views": {}}
    config = parse_config(settings | {"model": {"clusters": 4}})
    supply = RunData.fixed(config, store.manifest, Features(store.folder))
    make_store(tmp_path / "other", [ROWS[:, :3]] * 3).folder.rename(tmp_path / "moved")
    store.folder.rename(tmp_path / "before")
    (tmp_path / "moved").rename(store.folder)
    with pytest.raises(InputError, match=r"was recreated with another backbone, size or views"):
        RunDataWatch().look(supply, 2)
