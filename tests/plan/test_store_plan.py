"""What is told of work on a store, before it is done: made up of what its parts took."""

import json
import time

import numpy as np
import pytest
import torch
from harness.stores import make_store

from ccscale.cli.main import main
from ccscale.features import ivf, neighbours
from ccscale.features.neighbours import find_neighbours
from ccscale.features.vectors import Vectors
from ccscale.plan import k_means_cost, neighbour_cost, probe

N, D = 3000, 16


@pytest.fixture
def store(tmp_path):
    centres = 3 * np.random.default_rng(0).standard_normal((30, D))
    rng = np.random.default_rng(1)
    rows = centres[rng.integers(0, 30, N)] + rng.standard_normal((N, D))
    return make_store(tmp_path / "store", rows.astype(np.float32), bad=[5])


def plan(capsys, store, *line: str) -> dict:
    assert main(["plan", "store", str(store.folder), *line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_both(store, capsys):
    found = plan(capsys, store, "--clusters", "8", "--neighbours", "5")
    assert (found["rows"], found["width"], found["device"]) == (N - 1, D, "cpu")
    assert found["k_means"].items() >= {"starts": 40, "sample": N - 1, "passes": 0}.items()
    assert found["neighbours"].items() >= {"disk": 40 * (N - 1), "recall": 1.0, "cells": 0}.items()
    assert 0 < found["k_means"]["seconds"] < 60
    assert 0 < found["neighbours"]["seconds"] < 60
    assert min(found["k_means"]["bytes"], found["neighbours"]["bytes"]) > 2**20
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "features.json", "train-000000.arrow", "train-000001.arrow",
    ]  # fmt: skip


def test_cells_are_those_of_the_search(store, capsys, monkeypatch):
    """As many are looked at as the search itself says, and finds as much by."""
    monkeypatch.setattr(neighbours, "EXACT_WORK", 0)
    monkeypatch.setattr(ivf, "CELL", 40)
    found = plan(capsys, store, "--neighbours", "5")
    assert found["k_means"] is None
    facts = find_neighbours(store, 5, show=False)
    assert {name: found["neighbours"][name] for name in ("recall", "cells", "probes")} == {
        name: facts[name] for name in ("recall", "cells", "probes")
    }


def test_time_is_that_of_all_passes(monkeypatch):
    """Where each call takes a second, by the number of calls that there will be."""
    monkeypatch.setattr(k_means_cost, "seconds_of", lambda call, times=3: 1.0)
    vectors = Vectors.of_array(np.random.default_rng(0).standard_normal((40_000, 4)).astype(np.float32))
    work = k_means_cost.Work(starts=2, sample=20_000, sample_passes=7, passes=3, first_rows=16_384)
    monkeypatch.setattr(k_means_cost, "work_of", lambda *sizes: work)
    monkeypatch.setattr(k_means_cost, "_choosing", lambda *sizes: 5.0)
    cost = k_means_cost.k_means_cost(vectors, 8, False, torch.device("cpu"))
    of_sample, of_all = 20_000 / 16_384, 40_000 / 16_384
    assert cost.seconds == pytest.approx(2 * of_sample + 2 * (5 + 7 * of_sample) + of_all * (2 + 4 * 2))
    monkeypatch.setattr(neighbour_cost, "seconds_of", lambda call, times=3: 1.0)
    exact = neighbour_cost.neighbour_cost(vectors, 3, torch.device("cpu"))
    assert exact.seconds == pytest.approx(40_000 / 4096)  # a second a part, whatever the tiles


def test_memory_is_what_a_call_holds():
    held = probe.held()

    def hold() -> int:
        numbers = np.ones(2**24)
        time.sleep(4 * probe.WATCH_SECONDS)
        return len(numbers)

    result, cost = probe.measured(hold)
    assert result == 2**24
    assert cost.bytes - held > 100e6
    assert cost.seconds > 4 * probe.WATCH_SECONDS


def test_refusals(store, refused):
    line = ["plan", "store", store.folder]
    assert "use fewer" in refused(*line, "--clusters", str(N))
    assert "use fewer" in refused(*line, "--neighbours", str(N))
    assert "--clusters K for k-means, --neighbours K, or both" in refused(*line)
