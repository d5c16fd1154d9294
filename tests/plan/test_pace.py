"""How fast a run goes is measured on steps of its own, and none of them is kept."""

import json

import numpy as np
import pytest
from conftest import write_config
from harness.stores import make_store

from ccscale.cli.main import main
from ccscale.plan import pace


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "boost"), [(1, 0), (20, 0), (1, 2)])
def test_heads_on_a_store(tmp_path, capsys, monkeypatch, epochs, boost):
    monkeypatch.setattr(pace, "SECONDS", 0.0)
    make_store(tmp_path / "store", np.random.default_rng(0).standard_normal((96, 8)).astype(np.float32))
    settings = {
        "data": {"features": str(tmp_path / "store")},
        "pairs": {"of": "neighbours", "neighbours": 3},
        "model": {"clusters": 4},
        "train": {"global_batch": 32, "epochs": epochs, "device": "cpu"},
        "stages": {"boost": {"epochs": boost}},
        "run": str(tmp_path / "run"),
    }
    from ccscale import open_features
    from ccscale.features.neighbours import find_neighbours

    find_neighbours(open_features(tmp_path / "store"), 3, show=False)
    assert main(["plan", str(write_config(tmp_path, settings)), "--measure", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["pace"]
    assert found["device"] == "cpu"
    assert found["epoch"] == pytest.approx(3 * found["step"])
    assert (found["boost_step"] is None) == (boost == 0)
    steps_of_boost = 3 * boost * (found["boost_step"] or 0)
    assert found["total"] == pytest.approx(3 * epochs * found["step"] + steps_of_boost)
    assert found["bytes"] > 2**20
    assert found["workers"] == 0
    assert 0 <= found["wait"] < found["step"]
    assert not (tmp_path / "run").exists()


def test_it_is_of_one_rank(shards, tmp_path, refused):
    config = write_config(tmp_path, {"data": {"shards": str(shards)}, "model": {"clusters": 4}})
    assert "--measure runs steps on one rank" in refused("plan", config, "--measure", "--nodes", "2")
