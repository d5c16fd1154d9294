"""Images that cannot be decoded are skipped by name, counted, and limited."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import small_settings
from harness.odd_images import BAD, ODD
from harness.pictures import spoil

from ccscale.checkpoint import find
from ccscale.config.file import parse_config
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.tar_writer import TarWriter
from ccscale.errors import InputError
from ccscale.train.train import train_run


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """The shards with six images overwritten."""
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    keys = set()
    for place in range(6):
        keys.add(spoil(manifest, place % len(manifest.shards), place).keys[place])
    return copy, keys


def test_they_are_skipped_and_counted(
    damaged: tuple[Path, set[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    outcome = train_run(parse_config(small_settings(damaged[0], run)))
    assert outcome.finished
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts = [record["bad_samples"] for record in records if record["kind"] == "step"]
    assert counts == sorted(counts)
    assert counts[-1] == len(damaged[1])  # two epochs, and each is counted once
    said = capfd.readouterr().err
    for key in damaged[1]:
        assert said.count(f"skipped an image that cannot be decoded: {key}: ") == 1
    assert records[-1]["images"] == 150 - len(damaged[1])


def test_too_many_stop_the_run_which_is_saved_and_goes_on_with_a_higher_limit(
    damaged: tuple[Path, set[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = small_settings(damaged[0], run)
    settings["data"]["max_bad_samples"] = 2
    with pytest.raises(
        InputError, match=r"3 images cannot be decoded, .*max_bad_samples of 2; the last is class"
    ):
        train_run(parse_config(settings))
    saved = find(run).newest
    assert saved is not None
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, saved.step + 1))
    settings["data"]["max_bad_samples"] = 6
    assert train_run(parse_config(settings)).finished
    steps = [
        record["step"]
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if record["kind"] == "step"
    ]
    assert steps == list(range(1, 19))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Every odd image and every bad one in a tar that somebody else made; the bad ones' keys to their reasons."""
    root = tmp_path_factory.mktemp("zoo")
    reasons = {}
    with open(root / "train-000000.tar", "wb") as file:
        tar = TarWriter(file)
        for number, (data, _, _) in enumerate(ODD.values()):
            tar.add(f"odd-{number:03d}.jpg", data)  # the content tells the format
        for number, (data, reason) in enumerate(BAD.values()):
            tar.add(f"bad-{number:03d}.png", data)
            reasons[f"bad-{number:03d}"] = reason
        tar.finish()
    adopt(root, workers=1, progress=False)
    return root, reasons


def test_each_kind_of_bad_image_is_skipped_by_name(
    zoo: tuple[Path, dict[str, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, reasons = zoo
    run = tmp_path / "run"
    settings = small_settings(root, run)
    settings["data"] |= {"workers": 1, "max_bad_samples": len(reasons)}
    assert train_run(parse_config(settings)).finished
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    assert len(steps) == 2 * ((len(ODD) + len(BAD)) // 16)
    assert steps[-1]["bad_samples"] == len(BAD)
    assert records[-1]["images"] == len(ODD)
    said = capfd.readouterr().err
    lines = [line for line in said.splitlines() if "skipped an image" in line]
    for key, reason in reasons.items():
        (line,) = (line for line in lines if f"cannot be decoded: {key}: " in line)
        assert reason.lower() in line.lower()
    assert len(lines) == len(reasons)  # of the odd ones, none
    for speaker in ("PIL", "Warning", "TIFF", "JPEGLib"):
        assert speaker not in re.sub(r"known format \([^)]*\)", "", said)


def test_a_data_set_of_bad_images_alone_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "train-000000.tar", "wb") as file:
        tar = TarWriter(file)
        for number in range(20):
            tar.add(f"{number:02d}.png", b"no image")
        tar.finish()
    adopt(tmp_path, workers=1, progress=False)
    settings = small_settings(tmp_path, tmp_path / "run")
    settings["data"] |= {"max_bad_samples": 10**6}
    with pytest.raises(InputError, match=r"images in a row cannot be decoded, the last is .*known format"):
        train_run(parse_config(settings))
