"""tools/bench_metrics.py measures what it says, on small data and in this process."""

import json

import bench_metrics
import pytest
from bench_metrics import chunks, main


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("bench_metrics.alone", lambda call, *arguments: call(*arguments))
    monkeypatch.setattr("bench_metrics.CHUNK", 1000)


def test_chunks_have_all_images():
    assert [len(labels) for _, labels in chunks(2500, 40, 10, 0)] == [1000, 1000, 500]


def test_both_ways_give_the_same_figures_which_are_scikit_learn_s(monkeypatch, capsys):
    arguments = ["--images", "20000", "--clusters", "60", "--classes", "20", "--json"]
    monkeypatch.setattr("sys.argv", ["bench_metrics.py", *arguments])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    array, cells = result["ways"]["array"], result["ways"]["cells"]
    assert {name: array[name] for name in bench_metrics.FIGURES} == pytest.approx(
        {name: cells[name] for name in bench_metrics.FIGURES}, abs=1e-12
    )
    assert 1100 < array["cells"] == cells["cells"] <= 60 * 20
    assert 0.65 < array["purity"] < 0.75
    assert set(array["seconds"]) == {"counting", *bench_metrics.FIGURES, "per cluster"}
    assert max(result["differences"].values()) < 1e-12
