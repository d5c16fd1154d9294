"""Images that cannot be decoded are skipped by name, counted, and limited."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import small_settings

from ccscale.config import parse_config
from ccscale.data.index import read_index
from ccscale.data.manifest import Manifest
from ccscale.errors import InputError
from ccscale.train.checkpoint import find
from ccscale.train.loop import train_run


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """The shards with six images overwritten."""
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    keys = set()
    for place in range(6):
        shard = manifest.shards[place % len(manifest.shards)]
        index = read_index(manifest, shard)
        with open(manifest.locate(shard), "r+b") as file:
            file.seek(int(index.offsets[place]))
            file.write(bytes(30))
        keys.add(index.keys[place])
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
        InputError, match=r"3 images cannot be decoded, .*max_bad_samples is 2; the last is class"
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
