"""A run's folder: made once, recognised again, and refused to every other run."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from ccscale.checkpoint.permissions import PROBE
from ccscale.checkpoint.run import CONFIG, FACTS, compare_run, open_run, read_facts, read_run
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.config.keys import describe_keys
from ccscale.config.section import MayChange
from ccscale.errors import InputError

DIGEST = "ab" * 32


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "first"


def config(folder: Path, *overrides: str) -> Config:
    settings: dict[str, Any] = {"data": {"shards": "here"}, "model": {"clusters": 10}}
    return parse_config(settings, [f"run={folder}", *overrides])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_new_folder(folder):
    assert open_run(config(folder), DIGEST) is False
    assert sorted(contents(folder)) == [CONFIG, FACTS]
    assert read_run(folder) == config(folder)
    facts = read_facts(folder)
    assert facts["data"] == DIGEST
    assert facts["versions"]["ccscale"] == importlib.metadata.version("ccscale")
    assert {"python", "torch", "deepspeed", "timm", "webdataset"} <= facts["versions"].keys()


def test_empty_folder(folder):
    folder.mkdir(parents=True)
    assert open_run(config(folder), DIGEST) is False


def test_start_that_was_cut_off(folder):
    """Only the config was written: the run had not begun, and another one may begin there."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(config(folder, "seed=4").to_yaml())
    (folder / f"{CONFIG}.part").write_text("half")
    (folder / f"{PROBE}abc").mkdir()
    assert open_run(config(folder), DIGEST) is False
    assert read_run(folder).seed == 0


def test_again(folder):
    open_run(config(folder), DIGEST)
    before = contents(folder)
    assert open_run(config(folder), DIGEST) is True
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=1", "seed was 0 and is now 1"),
        ("train.lr=1e-3", "train.lr was 0.0003 and is now 0.001"),
        ("train.global_batch=128", "train.global_batch was 256 and is now 128"),
        ("data.lanes=32", "data.lanes was 64 and is now 32"),
        ("data.splits=[train, val]", "data.splits was ['train'] and is now ['train', 'val']"),
        ("train.clip=1", "train.clip was None and is now 1.0"),
        ("views.size=32", "views.size was 224 and is now 32"),
        ("model.clusters=11", "model.clusters was 10 and is now 11"),
        ("loss.cluster_temperature=2", "loss.cluster_temperature was 1.0 and is now 2.0"),
    ],
)
def test_another_run_is_refused(folder, override, told):
    open_run(config(folder), DIGEST)
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        open_run(config(folder, override), DIGEST)
    assert str(caught.value) == (
        f"{folder} contains a run with other settings: {told}; use another folder (run=DIR), or the old "
        "settings"
    )
    assert contents(folder) == before


def test_a_run_of_an_earlier_release_goes_on(folder):
    open_run(config(folder), DIGEST)
    written = yaml.safe_load((folder / CONFIG).read_text())
    written["data"]["allow_pipe"] = False
    (folder / CONFIG).write_text(yaml.safe_dump(written))
    assert read_run(folder) == config(folder)
    assert open_run(config(folder), DIGEST) is True


def test_a_run_with_a_key_that_is_gone_is_read_and_does_not_go_on(folder):
    open_run(config(folder), DIGEST)
    written = yaml.safe_load((folder / CONFIG).read_text())
    written["data"]["allow_pipe"] = True
    (folder / CONFIG).write_text(yaml.safe_dump(written))
    assert read_run(folder) == config(folder)
    with pytest.raises(InputError, match=r"the key 'data\.allow_pipe' was removed"):
        open_run(config(folder), DIGEST)


def test_all_that_differs_is_named(folder):
    open_run(config(folder), DIGEST)
    with pytest.raises(InputError) as caught:
        open_run(config(folder, "seed=1", "train.epochs=5", "views.flip=0"), "cd" * 32)
    message = str(caught.value)
    assert "seed was 0 and is now 1; views.flip was 0.5 and is now 0.0; " in message
    assert "the data in here are not the ones it was begun with; " in message
    assert "epochs" not in message


CHANGES: dict[str, Any] = {
    "data.shards": "there",
    "data.refresh": "epoch",
    "data.vanished": "retire",
    "data.workers": 3,
    "data.prefetch": 5,
    "data.max_bad_samples": 0,
    "data.retry_seconds": 5.0,
    "data.cache": "cache",
    "data.cache_bytes": 2**25,
    "train.epochs": 2000,
    "train.max_steps": 7,
    "train.max_bad_steps": 0,
    "train.rank_timeout": 60.0,
    "train.device": "cpu",
    "train.compile": True,
    "train.profile": 3,
    "loss.ring_bytes": 0,
    "train.save_every": 1,
    "train.save_minutes": 1.0,
    "train.keep_last": 9,
    "train.keep_every": 5,
    "train.log_every": 1,
    "stages.boost.epochs": 3,
    "evaluate.every": 2,
    "evaluate.splits": ["val"],
    "evaluate.batch": 1,
    "log.wandb": "photos",
    "log.mlflow": "photos",
    "log.name": "another",
}


def test_every_free_key_is_tried():
    free = {key.name for key in describe_keys() if key.may_change is MayChange.FREELY}
    moved = {"data.features"}  # in place of data.shards: tests/train/test_store_run.py moves a store
    assert set(CHANGES) | {"run"} | moved == free


@pytest.mark.parametrize(("key", "value"), CHANGES.items())
def test_free_keys_may_change_and_are_kept(folder, key, value):
    open_run(config(folder), DIGEST)
    changed = config(folder, f"{key}={json.dumps(value)}")
    assert changed != config(folder)
    assert open_run(changed, DIGEST) is True
    assert read_run(folder) == changed


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epochs=2000", "train.epochs was 1000 and is now 2000"),
        ("train.max_steps=7", "train.max_steps was None and is now 7"),
    ],
)
def test_a_run_whose_rates_depend_on_its_length_keeps_it(folder, schedule, override, told):
    chosen = f"train.schedule={schedule}"
    open_run(config(folder, chosen), DIGEST)
    with pytest.raises(InputError) as caught:
        open_run(config(folder, chosen, override), DIGEST)
    assert str(caught.value) == (
        f"{folder} contains a run with other settings: {told}, and the rates of train.schedule {schedule} "
        "depend on how long the run is; use another folder (run=DIR), or the old settings"
    )


def test_what_changes_rounding_alone_is_noted(folder):
    open_run(config(folder), DIGEST)
    changed = config(folder, "train.zero=1", "train.micro_batch=64")
    assert [str(change) for change in compare_run(changed, DIGEST).changes] == [
        "train.micro_batch was 256 and is now 64",
        "train.zero was 0 and is now 1",
    ]
    assert open_run(changed, DIGEST) is True
    assert read_run(folder) == changed
    standing = compare_run(config(folder), DIGEST)
    standing.check(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    with pytest.raises(
        InputError, match=r"train.micro_batch was 64 and is now 256, and the backbone's batch norm"
    ):
        standing.check(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_a_micro_batch_that_is_the_whole_one_is_no_change(folder):
    open_run(config(folder), DIGEST)
    assert compare_run(config(folder, "train.micro_batch=256"), DIGEST).changes == ()


def test_lanes_that_are_told_and_lanes_by_default_are_one(folder):
    open_run(config(folder), DIGEST)
    assert open_run(config(folder, "data.lanes=64"), DIGEST) is True


def test_other_data(folder):
    open_run(config(folder), DIGEST)
    with pytest.raises(
        InputError, match="contains a run with other settings: the data in there are not the ones"
    ):
        open_run(config(folder, "data.shards=there"), "cd" * 32)


def test_versions_that_made_it_stay(folder):
    """A run that goes on with other versions does not forget those that it was begun with."""
    open_run(config(folder), DIGEST)
    facts = read_facts(folder) | {"versions": {"torch": "1.0"}}
    (folder / FACTS).write_text(json.dumps(facts))
    open_run(config(folder, "train.epochs=1"), DIGEST)
    assert read_facts(folder) == facts


def test_moved_folder_is_the_same_run(folder, tmp_path):
    open_run(config(folder), DIGEST)
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert read_run(moved).run_folder == moved
    assert open_run(config(moved), DIGEST) is True
    assert yaml.safe_load((moved / CONFIG).read_text())["run"] == str(moved)


def test_folder_with_something_else(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(
        InputError, match=f"^{folder} is neither empty nor the folder of a run; choose another one"
    ):
        open_run(config(folder), DIGEST)
    assert contents(folder) == {"thesis.tex": b"precious"}


@pytest.mark.parametrize("left", [[f"{CONFIG}.part"], [CONFIG], [CONFIG, f"{FACTS}.part"]], ids=str)
def test_a_start_that_was_cut_off_is_made_again(folder, left):
    open_run(config(folder), DIGEST)
    whole = contents(folder)
    for path in folder.iterdir():
        path.unlink()
    for name in left:
        (folder / name).write_bytes(whole.get(name, b"{"))
    assert open_run(config(folder), DIGEST) is False
    assert contents(folder) == whole


def test_file_in_place_of_the_folder(folder):
    folder.parent.mkdir()
    folder.write_text("precious")
    with pytest.raises(InputError, match=f"^run: {folder} is a file; give a folder$"):
        open_run(config(folder), DIGEST)
    assert folder.read_text() == "precious"


def test_folder_that_cannot_be_made(folder):
    folder.parent.mkdir()
    folder.write_text("precious")
    with pytest.raises(InputError, match=r"cannot write to .*: Not a directory$"):
        open_run(config(folder / "below"), DIGEST)


@pytest.mark.parametrize("made", [True, False])
def test_reading_what_is_no_run(folder, made):
    if made:
        folder.mkdir(parents=True)
        (folder / CONFIG).write_text(config(folder).to_yaml())
    with pytest.raises(InputError) as caught:
        read_run(folder)
    assert str(caught.value) == (
        f"{folder} is not the folder of a run; `ccscale train CONFIG run={folder}` creates one"
    )
