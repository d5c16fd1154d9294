"""A run whose shards grow: the same batches on any number of ranks, after kills, whatever is there by then."""

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import small_settings, write_config
from harness.growing_shards import after_steps, show
from lives import Life, fork
from runs import BOUNDS, LIMIT, difference, steps

from ccscale.checkpoint.intake_files import KeptIntakes, read_intakes
from ccscale.cli.main import main
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.train.log import RunLog

GROWTH = {3: 3, 8: 5}
"""Step to the number of shards that are there after it; each has 30 images, and there are 2 at first."""


def settings_of(place: Path, run: Path, **changes) -> dict:
    changes = {"data__refresh": "epoch", "train__epochs": 4, "train__save_every": 2} | changes
    return small_settings(place, run, **changes)


def train(config: Path, *overrides: str) -> None:
    assert main(["train", str(config), *overrides]) == 0


@pytest.fixture
def grows(shards, tmp_path, monkeypatch):
    """Begin a folder of shards that grow while it is trained on in this process; return it."""

    def begin(name: str) -> Path:
        show(shards, tmp_path / name, 2)
        monkeypatch.setattr(RunLog, "step", RunLog.step)  # so that it is as it was afterwards
        after_steps(shards, tmp_path / name, GROWTH)()
        return tmp_path / name

    return begin


def cut_back(run: Path, step: int) -> None:
    """Leave a run as a kill does after whose checkpoint there was none yet."""
    shutil.rmtree(run / f"checkpoints/step-{step:08d}")


@pytest.mark.slow
def test_what_is_new_is_taken_in_and_a_killed_run_goes_on_bit_for_bit(shards, tmp_path, grows, capfd):
    """What was decided since the last checkpoint stays decided, though more is there by then."""
    train(write_config(tmp_path, settings_of(grows("whole"), tmp_path / "a")))
    said = capfd.readouterr().err
    assert (
        "4 epochs: 12 steps if they stay as they are; the data are looked at again where an epoch ends"
        in said
    )
    assert "step 6: took in 1 new shard of 30 images; 90 images from here on, 5 steps an epoch" in said
    assert "step 11: took in 2 new shards of 60 images; 150 images from here on, 9 steps an epoch" in said
    config = write_config(tmp_path, settings_of(grows("parts"), tmp_path / "b"))
    train(config, "train.max_steps=4")
    cut_back(tmp_path / "b", 4)  # that nothing was new after step 3 is known, and a shard has come
    train(config, "train.max_steps=7")
    cut_back(tmp_path / "b", 7)
    show(shards, tmp_path / "parts", 5)
    train(config)
    whole, parts = steps(tmp_path / "a"), steps(tmp_path / "b")
    assert len(whole) == 20
    assert difference(parts, whole) == (True, 0)
    assert [record["epoch"] for record in parts] == [record["epoch"] for record in whole]
    taken = read_intakes(tmp_path / "a").intakes
    assert [intake.step for intake in taken.intakes] == [0, 6, 11]
    assert read_intakes(tmp_path / "b").intakes == taken


@pytest.fixture(scope="module")
def begun(shards, tmp_path_factory) -> Path:
    """A run of two steps on two shards; a third one is there by now."""
    root = tmp_path_factory.mktemp("begun")
    show(shards, root / "shards", 2)
    train(write_config(root, settings_of(root / "shards", root / "run")), "train.max_steps=2")
    show(shards, root / "shards", 3)
    return root


@pytest.fixture
def mine(begun, tmp_path) -> Path:
    """The same, to be changed: its config, to go on to step 4."""
    for name in ("shards", "run"):
        shutil.copytree(begun / name, tmp_path / name)
    return write_config(tmp_path, settings_of(tmp_path / "shards", tmp_path / "run", train__max_steps=4))


def list_again(place: Path, *shards: Shard) -> None:
    replace(Manifest.load(place), shards=shards, labelled={}).save()


def test_data_that_may_not_grow_are_refused_when_they_have(mine, refused):
    assert "have changed since the run took them in: 1 shard more; set data.refresh" in refused(
        "train", mine, "data.refresh=null"
    )


def test_shards_that_are_others_are_refused(mine, refused):
    place = mine.parent / "shards"
    first, second, third = Manifest.load(place).shards
    list_again(place, first, replace(second, sha256="f" * 64), third)
    assert f"{second.url} has changed since the run took it in" in refused("train", mine)
    list_again(place, first, second, replace(third, sha256=first.sha256))
    assert f"{third.url} has the same contents as {first.url}" in refused("train", mine)


def test_a_shard_that_is_not_listed_any_more_is_told_and_read_as_before(mine, capfd):
    place = mine.parent / "shards"
    first, second, _ = Manifest.load(place).shards
    list_again(place, second)
    train(mine)
    said = capfd.readouterr().err
    assert f"warning: 1 shard of the run is not listed any more in {place}, the first is {first.url}" in said
    assert len(steps(mine.parent / "run")) == 4


def test_a_shard_that_is_gone_is_refused_or_retired(mine, refused, capsys):
    place = mine.parent / "shards"
    first, second, third = Manifest.load(place).shards
    (place / first.url).unlink()
    assert f"1 shard that the run uses is missing, the first is {first.url}" in refused("train", mine)
    train(mine, "data.vanished=retire")
    said = capsys.readouterr().err
    assert "step 2: retired 1 shard, which is gone; 30 images from here on, 1 step an epoch" in said
    taken = read_intakes(mine.parent / "run").intakes
    assert [(intake.step, len(intake.sources), intake.retired) for intake in taken.intakes] == [
        (0, 2, ()),
        (2, 0, (first.url,)),
        (3, 1, ()),
    ]
    assert [shard.url for shard in taken.shards] == [first.url, second.url, third.url]
    earlier = KeptIntakes.begin(taken.sources[:2], read_intakes(mine.parent / "run").data)
    earlier.kept(mine.parent / "run")  # as of another run
    assert main(["train", str(mine), "data.vanished=retire"]) == 2
    assert "does not record what the checkpoint of step 4 was trained on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_begun_before_may_begin_to_grow(shards, tmp_path, refused, capsys):
    show(shards, tmp_path / "shards", 2)
    settings = settings_of(tmp_path / "shards", tmp_path / "run", data__refresh=None, train__epochs=1)
    config = write_config(tmp_path, settings)
    train(config)
    capsys.readouterr()
    show(shards, tmp_path / "shards", 3)
    assert "are not the ones it was begun with" in refused("train", config)
    train(config, "data.refresh=epoch", "train.epochs=2")  # where the first epoch ended, a shard is taken in
    assert [intake.step for intake in read_intakes(tmp_path / "run").intakes.intakes] == [0, 3]
    assert len(steps(tmp_path / "run")) == 3 + 5


@pytest.mark.dist
@pytest.mark.slow
def test_any_number_of_ranks_killed_anywhere_has_the_same_batches(shards, tmp_path):
    """float64: the losses differ by the order in which ranks are added up alone."""
    rng = random.Random(6)
    precise = {"train__precision": "fp64", "train__zero": 1, "train__save_every": 3}

    def life(name: str, ranks: int) -> Life:
        show(shards, tmp_path / f"{name}-shards", 2)
        (tmp_path / name).mkdir(exist_ok=True)
        config = write_config(
            tmp_path / name, settings_of(tmp_path / f"{name}-shards", tmp_path / name / "run", **precise)
        )
        return Life(
            fork(["train", str(config)], after_steps(shards, tmp_path / f"{name}-shards", GROWTH)), ranks
        )

    life("whole", 1).finish(LIMIT)
    for ranks, after in ((2, 7), (4, 12)):
        started = life("killed", ranks)
        while started.code() is None and len(steps(tmp_path / "killed/run")) < after:
            time.sleep(0.02)
        time.sleep(rng.random() / 5)
        started.kill_group()
        started.wait(LIMIT)
    life("killed", 2).finish(LIMIT)
    digests, worst = difference(steps(tmp_path / "killed/run"), steps(tmp_path / "whole/run"))
    assert digests
    assert worst <= BOUNDS["fp64"]
