"""Only complete checkpoints are loaded; the others are passed over by name; a run never begins anew in silence."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import small_settings

from ccscale import checkpoint
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.errors import InputError
from ccscale.model.export import load
from ccscale.train.train import train_run

DEVICE_STATE = "deepspeed/mp_rank_00_model_states.pt"


def config_of(shards: Path, run: Path, **changes: object) -> Config:
    settings = small_settings(shards, run, train__max_steps=4, train__save_every=1, train__keep_last=3)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        settings[section] = settings[section] | {name: value} if name else value
    return parse_config(settings)


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, with checkpoints of the last three."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert train_run(config_of(shards, run)).finished
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(trained, tmp_path / "run")


def folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def test_the_last_ones_are_kept_and_each_is_complete(run: Path) -> None:
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000002",
        "step-00000003",
        "step-00000004",
    ]
    found = checkpoint.find(run)
    assert found.newest is not None
    assert (found.newest.step, found.newest.world, found.passed_over) == (4, 1, ())
    marker = json.loads((folder(run, 4) / "COMMIT.json").read_text())
    assert set(marker["files"]) == {DEVICE_STATE, "model.safetensors", "config.json"}


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": (
        lambda path: flip_a_bit(path / DEVICE_STATE),
        f"{DEVICE_STATE} of step-00000004 was changed",
    ),
    "cut off": (
        lambda path: (path / DEVICE_STATE).write_bytes((path / DEVICE_STATE).read_bytes()[:-1]),
        "was changed or damaged",
    ),
    "a missing file": (
        lambda path: (path / "model.safetensors").unlink(),
        "lacks the file model.safetensors",
    ),
    "no marker": (lambda path: (path / "COMMIT.json").unlink(), "step-00000004 has no COMMIT.json"),
    "an empty marker": (
        lambda path: (path / "COMMIT.json").write_text(""),
        "COMMIT.json of step-00000004 cannot",
    ),
    "an empty folder": (lambda path: [shutil.rmtree(path), path.mkdir()], "has no COMMIT.json"),
    "a marker alone": (
        lambda path: [(path / name).unlink() for name in (DEVICE_STATE, "model.safetensors", "config.json")],
        "lacks the file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_by_name(run: Path, damage: str) -> None:
    act, words = DAMAGES[damage]
    act(folder(run, 4))
    found = checkpoint.find(run)
    assert found.newest is not None
    assert found.newest.step == 3
    (reason,) = found.passed_over
    assert words in reason


def test_a_run_goes_on_from_the_one_before_and_replaces_the_damaged_one(
    shards: Path, run: Path, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flip_a_bit(folder(run, 4) / DEVICE_STATE)
    assert train_run(config_of(shards, run)).finished
    said = capfd.readouterr().err
    assert "skipped a checkpoint: the file deepspeed/mp_rank_00_model_states.pt of step-00000004" in said
    assert "going on from step 3 of 4" in said
    assert checkpoint.find(run).newest.step == 4
    for name, value in load(folder(trained, 4)).state_dict().items():
        assert torch.equal(load(folder(run, 4)).state_dict()[name], value)


def test_when_all_are_damaged_nothing_begins_anew(shards: Path, run: Path) -> None:
    for step in (2, 3, 4):
        flip_a_bit(folder(run, step) / DEVICE_STATE)
    before = sorted(run.rglob("*"))
    with pytest.raises(
        InputError, match=r"has no complete checkpoint: .*step-00000004.*step-00000003.*step-00000002"
    ):
        train_run(config_of(shards, run))
    assert sorted(run.rglob("*")) == before


def test_what_was_being_written_is_not_looked_at(shards: Path, run: Path) -> None:
    staging = run / "checkpoints" / ".staging"
    staging.mkdir()
    (staging / "COMMIT.json").write_text("{}")
    assert checkpoint.find(run).newest.step == 4
    assert train_run(config_of(shards, run, train__max_steps=5)).step == 5
    assert not staging.exists()


def test_a_conversion_that_was_cut_off_does_not_stay(shards: Path, run: Path) -> None:
    """No resume at another number of ranks need come."""
    half = run / "checkpoints/universal/.staging/step-00000004/half.pt"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert train_run(config_of(shards, run)).step == 4
    assert not half.parents[1].exists()


def test_the_log_is_on_the_disk_before_a_checkpoint_counts(
    shards: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave a checkpoint without the lines of its steps."""
    fsync, rename = os.fsync, os.rename
    flushed, committed = [], {}

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(run / "metrics.jsonl"):
            flushed.extend(
                json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()
            )

    def watched_rename(source: Path, target: Path) -> None:
        if Path(target).parent == run / "checkpoints":
            committed[Path(target).name] = max(flushed, default=0)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    config = config_of(shards, run, train__max_steps=7, train__save_every=2, train__log_every=10)
    assert train_run(config).step == 7
    assert committed.keys() == {"step-00000006", "step-00000007"}
    assert all(last >= int(name.removeprefix("step-")) for name, last in committed.items())


def test_a_run_that_is_done_has_nothing_to_do(
    shards: Path, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    metrics = (run / "metrics.jsonl").read_bytes()
    outcome = train_run(config_of(shards, run))
    assert (outcome.step, outcome.finished) == (4, True)
    assert "there is nothing left to do" in capfd.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_an_evaluation_that_was_cut_off_is_made_up_for(shards: Path, run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "evaluation"
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    train_run(config_of(shards, run))
    again = (run / "metrics.jsonl").read_text().splitlines()
    kept = [{k: v for k, v in json.loads(line).items() if k != "time"} for line in (lines[-1], again[-1])]
    assert kept[0] == kept[1]
    assert len(again) == len(lines)


def test_a_checkpoint_holds_the_network_for_everybody(run: Path) -> None:
    network = load(folder(run, 4))
    assert not network.training
    content = json.loads((folder(run, 4) / "config.json").read_text())
    assert (content["step"], content["epoch"], content["classes"]) == (4, 1, ["class0", "class1", "class2"])


def test_a_marker_tells_what_made_it(run: Path) -> None:
    marker = json.loads((folder(run, 4) / "COMMIT.json").read_text())
    assert (marker["step"], marker["world"], marker["zero"]) == (4, 1, 0)
    assert marker["config"]["train"]["keep_last"] == 3
    assert {"python", "torch", "deepspeed"} <= marker["versions"].keys()
    (line,) = (run / "metrics.jsonl").read_text().splitlines()[-1:]
    measures = {name: json.loads(line)[name] for name in ("information", "nmi")}
    assert marker["evaluation"] == measures  # of the last step, noted when it was complete


@pytest.mark.slow
def test_the_best_evaluations_are_kept(shards: Path, tmp_path: Path) -> None:
    """None of these steps is saved for another reason than its evaluation, but the last."""
    run = tmp_path / "run"
    changes = {"train__max_steps": None, "train__epochs": 4, "train__save_every": 1000, "train__keep_last": 1}
    assert train_run(config_of(shards, run, evaluate={"every": 1}, **changes)).finished
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rated = {record["step"]: record for record in records if record["kind"] == "evaluation"}
    assert sorted(rated) == [9, 18, 27, 36]
    best = {
        measure: max(rated, key=lambda step: (rated[step][measure], -step))
        for measure in ("information", "nmi")
    }
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == sorted(
        {folder(run, step).name for step in (*best.values(), 36)}
    )
    assert checkpoint.choose(run, "best").newest.step == best["information"]
    assert checkpoint.choose(run, "best-nmi").newest.step == best["nmi"]
    assert checkpoint.choose(run).newest.step == 36
    marker = json.loads((folder(run, best["nmi"]) / "COMMIT.json").read_text())
    assert marker["evaluation"]["nmi"] == rated[best["nmi"]]["nmi"]
