"""Commands that are killed again and again end with what they end with unbroken."""

import json
from typing import Any

import pytest
from conftest import make_images, small_settings, write_config
from harness.tools import run_tool_here

from ccscale.cli.main import main
from ccscale.clusters.lineage import open_lineage
from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources.kinds import open_source

pytestmark = pytest.mark.slow


def kill_often(*arguments: object) -> dict[str, Any]:
    """Kill a command, which must find nothing different; return what was found."""
    done = run_tool_here("faults/kill_often.py", *arguments, "--json")
    assert done.code == 0, done.out + done.err
    return json.loads(done.out)


@pytest.mark.timeout(280)
def test_a_killed_conversion_ends_with_the_same_bytes(tmp_path):
    images = make_images(tmp_path / "images", 240, size=(160, 120))
    (images / "class0/broken.jpg").write_bytes(b"no image")
    (images / "class1/again.jpg").write_bytes((images / "class0/0000.jpg").read_bytes())
    options = ["--format", "webp", "--shard-samples", "20", "--dedup", "--workers", "2"]
    result = kill_often("conversion", "folder", images, *options, "--kills", "3", "--seed", "1")
    assert len(result["kills"]) == 3
    assert result["rounds"] >= 1
    assert result["different"] == [[]] * result["rounds"]
    # 13 shards and their indexes, the manifest, two lists.
    assert result["facts"] == 2 * 13 + 3
    assert {*result["kills"][0]} == {"round", "ranks", "life", "event", "target", "survivors", "state"}


@pytest.mark.dist
@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--ranks", "2", "--kills", "4", "--seed", "151"], ["train.zero=1"]),
        (
            ["--ranks", "2", "--also", "1", "--tolerance", "1e-8", "--kills", "3", "--seed", "7359"],
            ["train.zero=1", "train.precision=fp64"],
        ),
    ],
    ids=["bit for bit", "and one rank"],
)
def test_killed_ranks_end_with_the_same_weights(shards, tmp_path, options, settings):
    config = small_settings(shards, tmp_path / "unused", train__max_steps=12, train__save_every=3)
    config["evaluate"] = {"every": 1}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    log = tmp_path / "log"
    command = ["training", tmp_path / "config.yaml", *settings, *options]
    result = kill_often(*command, "--fork", "--log", log)
    seed, found = int(options[-1]), result["kills"]
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"seed": seed, **kill} for kill in found
    ]
    assert len(found) == int(options[-3])
    assert result["different"] == [[]] * result["rounds"]
    assert result["facts"] == 12 + 2 + 1  # steps, evaluations (of an epoch's 9 steps, and the end), weights
    assert {kill["ranks"] for kill in found} == {*result["ranks"]}
    for kill in found:
        assert kill["survivors"].startswith("ended") if kill["target"].startswith("rank") else True
    assert sum(result["at"].values()) == len(found)


@pytest.mark.dist
@pytest.mark.timeout(280)
def test_killed_updates_of_several_ranks_end_with_the_same_bytes(tmp_path, shards):
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2)
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    assert main(["lineage", "init", str(tmp_path / "run")]) == 0
    assert str(tmp_path) not in open_lineage(tmp_path / "run").current.backbone.origin
    days = [tmp_path / "day1", tmp_path / "day2"]
    for number, day in enumerate(days):
        images = make_images(tmp_path / f"{day.name}-images", 40, size=(40 + number, 30))
        source = open_source("folder", str(images))
        make_shards(source, day, shard_samples=20, workers=1, progress=False)
    options = ["--ranks", "2", "--also", "1", "--kills", "4", "--seed", "3"]
    result = kill_often("living", tmp_path / "run", *days, *options)
    assert result["different"] == [[]] * result["rounds"]
    assert {kill["ranks"] for kill in result["kills"]} == {1, 2}
