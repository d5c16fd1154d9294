"""tools/bench_losses.py and bench_step.py at tiny sizes: what they count is right; times are not looked at."""

import json
from pathlib import Path

import pytest
from conftest import python

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.dist
@pytest.mark.slow
def test_the_bytes_that_each_way_sends():
    sizes = ("--images", "64", "--clusters", "5", "--ranks", "2", "--repeats", "1", "--json")
    done = python(str(TOOLS / "bench_losses.py"), *sizes)
    assert done.returncode == 0, done.stderr
    rows = {(row["loss"], row["way"]): row for row in json.loads(done.stdout)["rows"]}
    rows_of_all = 2 * 64 * 128 * 4
    assert rows["instance", "a"]["bytes"] == 2 * rows_of_all  # there, and their gradients back
    assert rows["instance", "b"]["bytes"] == 2 * rows_of_all
    assert rows["instance", "c"]["bytes"] == rows_of_all + (2 * 64 + 2) * 4  # logsumexps, a number a rank
    assert rows["cluster", "c"]["bytes"] == 4 * (4 * 5**2 + 2 * 5)
    assert rows["instance", "c"]["peak"] < rows["instance", "a"]["peak"]


@pytest.mark.slow
def test_the_shares_of_a_step(shards):
    settings = ("views.size=16", "model.backbone=test_resnet", "train.global_batch=16", "data.workers=0")
    done = python(str(TOOLS / "bench_step.py"), str(shards), *settings, "--turns", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    parts = ["loader wait", "views", "forward", "losses", "backward", "optimizer", "other"]
    assert list(found["shares"]) == parts
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert all(found["shares"][part] > 0 for part in parts[:-1])
    assert found["ratio"] > 0
