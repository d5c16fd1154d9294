"""Commands that are killed again and again end with what they end with unbroken."""

import json
from typing import Any

import pytest
from conftest import make_images, small_settings
from harness.tools import run_tool_here

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
