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


def test_the_figures_are_scikit_learn_s(monkeypatch, capsys):
    arguments = ["--images", "20000", "--clusters", "60", "--classes", "20", "--json"]
    monkeypatch.setattr("sys.argv", ["bench_metrics.py", *arguments])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert 1100 < result["cells"] <= 60 * 20
    assert 0.65 < result["purity"] < 0.75
    assert set(result["seconds"]) == {"counting", *bench_metrics.FIGURES, "per cluster"}
    assert max(result["differences"].values()) < 1e-12
