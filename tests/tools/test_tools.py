"""Each tool once, on little: it runs to its end, and what it prints is what its figures should be."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import missing
from conftest import small_settings, write_config
from harness.stores import make_store
from harness.tools import run_tool

pytestmark = pytest.mark.slow

BENCH = ("views.size=16", "model.backbone=test_resnet", "train.global_batch=16", "data.workers=0")


def found(script: str, *arguments: object) -> dict[str, Any]:
    """Return the JSON object that a tool prints."""
    done = run_tool(script, *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def config(shards: Path, tmp_path: Path) -> str:
    """A config that trains in seconds: one epoch of two steps."""
    settings = small_settings(shards, tmp_path / "unused", train__epochs=1, train__global_batch=64)
    return str(write_config(tmp_path, settings))


def test_loader():
    """Where a worker's memory is bounded, too."""
    pytest.importorskip("cv2", reason="OpenCV (the extra `bench`) is not installed")
    sizes = ("--sizes", "64", "--images", "32", "--batch", "4", "--repeats", "1", "--blocks", "1")
    result = found("bench/loader.py", *sizes)
    assert [*result["sizes"]] == ["64"]
    assert 80_000 < result["file_bytes"] < 140_000
    for row in result["sizes"].values():
        for name, time in row["milliseconds"].items():
            assert time * row["images_per_second"][name] == pytest.approx(1000)
        (memory,) = row["memory"]
        assert 0 < memory["grown"] <= memory["bound"]


def test_heap(shards):
    result = found("bench/heap.py", shards, *BENCH, "--turns", "1", "--steps", "3")
    assert result["same_losses"]
    for side in result["sides"].values():
        assert 0 <= side["kernel_s"] < side["processor_s"]
        assert side["images_per_second"] == pytest.approx(16 / side["wall_s"])
    assert result["memory"] == pytest.approx(1, abs=0.5)


def test_host(shards):
    """The parts are those of a step, and one process copies no gradients."""
    parts = found("bench/host.py", shards, "--steps", "2", *BENCH)["parts"]
    assert {"views", "network", "losses", "optimizer", "guard", "agreement"} < parts.keys()
    assert all(part["ms"] >= 0 for part in parts.values())
    assert parts["optimizer"]["launching"] == 3
    assert parts["network"]["launching"] > 50 > parts["guard"]["launching"] > 0


@pytest.mark.dist
def test_losses():
    sizes = ("--images", "64", "--clusters", "5", "--ranks", "2", "--repeats", "1")
    rows = {(row["loss"], row["way"]): row for row in found("bench/losses.py", *sizes)["rows"]}
    rows_of_all = 2 * 64 * 128 * 4
    assert rows["instance", "a"]["bytes"] == 2 * rows_of_all  # there, and their gradients back
    assert rows["instance", "b"]["bytes"] == 2 * rows_of_all
    assert rows["instance", "c"]["bytes"] == rows_of_all + (2 * 64 + 2) * 4  # logsumexps, a number a rank
    assert rows["cluster", "c"]["bytes"] == 4 * (4 * 5**2 + 2 * 5)
    assert rows["instance", "c"]["peak"] < rows["instance", "a"]["peak"]


def test_how_many(tmp_path):
    classes = np.arange(180) % 6
    rows = 5 * np.eye(6, 8)[classes] + np.random.default_rng(0).normal(size=(180, 8))
    np.save(tmp_path / "some.npy", rows.astype(np.float32))
    np.save(tmp_path / "some_y.npy", classes)
    (row,) = found("bench/how_many.py", tmp_path / "some.npy", "--seeds", "1", "--classes", "5")["rows"]
    assert (row["images"], row["classes"], row["seen"]) == (150, 5, True)
    assert row["low"] <= 5 <= row["high"]


def test_metrics():
    result = found("bench/metrics.py", "--images", "20000", "--clusters", "60", "--classes", "20")
    assert 1100 < result["cells"] <= 60 * 20
    assert max(result["differences"].values()) < 1e-12


def test_report():
    if missing():
        pytest.skip(missing())
    result = found("bench/report.py", "--clusters", "5", "--points", "200", "--repeats", "1")
    assert result["bytes"] > 10_000
    assert all(time > 0 for time in result["milliseconds"].values())


def test_saving(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = found("bench/saving.py", config, "--steps", "24", "--every", "6", "train.epochs=20")
    assert result["saves"] >= 3
    assert 0 < result["wait_ms"] <= result["longest_wait_ms"]
    assert all(0 < share < 1 for share in result["shares"].values())


def test_schedule():
    result = found("bench/schedule.py", "--samples", "300000", "--shards", "30", "--lanes", "64")
    assert all(
        rank["peak_mb"] > 0 for rank in result["ranks"].values()
    )  # so few samples take the same of each
    assert 100 < result["manifest"]["file_mb"] * 1e6 / 30 < 1000  # bytes of a shard's entry


def test_store_batches(tmp_path):
    features = np.ones((2000, 4), np.float32)
    make_store(tmp_path / "store", [features] * 3, dtype="float16")
    result = found("bench/store_batches.py", tmp_path / "store", "pairs.of=views")
    assert result["width"] == 4
    assert 0 < result["rows_a_second"] < 1.5 * result["rows_a_cpu_second"]


def test_gpu_dry() -> None:
    """Each part on a CPU; what it finds is for a GPU to say."""
    done = run_tool("bench/gpu.py", "--dry")
    assert done.code == 0, done.out
    assert "FAILED" not in done.out


def test_step(shards):
    result = found("bench/step.py", shards, *BENCH, "--turns", "2")
    parts = ["loader wait", "views", "forward", "losses", "backward", "optimizer", "other"]
    assert list(result["shares"]) == parts
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert all(result["shares"][part] > 0 for part in parts[:-1])
    assert result["ratio"] > 0


def test_mixing():
    """Where ccscale's defaults mix sorted shards nearly as a full permutation does, and a buffer does not."""
    ours, buffer = "ccscale, defaults", "WebDataset, shuffle(5000), 1 loader"
    buffers = "WebDataset, shuffle(5000), 8 loaders, shuffle(1000)"

    def rows_of(name: str, *orders: str) -> dict[str, Any]:
        options = [word for order in orders for word in ("--order", order)]
        rows = found("paper/mixing.py", "--set", name, *options)["sets"][name]
        return {row["order"]: row for row in rows}

    large = rows_of("medium", ours)[ours]
    assert large["reads"] == 4  # samples at a time: more than is permuted one by one
    assert large["clumping"] == pytest.approx(1, abs=0.2)
    assert large["clumping_together"] < 3.5
    assert large["met_again"] == pytest.approx(256 * 255 / 2 * 255 / 200_000, rel=0.1)
    assert abs(large["correlation"]) < 0.02
    rows = rows_of("small", "full permutation", ours, buffer, buffers)
    for order in ("full permutation", ours):
        assert rows[order]["clumping"] == pytest.approx(1, abs=0.03)
        assert rows[order]["clumping_together"] == pytest.approx(0.96, abs=0.05)
        assert abs(rows[order]["correlation"]) < 0.02
    assert rows[ours]["reads"] == 1
    assert rows[buffer]["clumping"] > 5
    assert rows[buffers]["clumping"] < rows[buffer]["clumping"]


def test_benchmark(config, tmp_path):
    out = tmp_path / "out"
    study = ["batch-size", config, "--values", "16", "--out", out, "train.max_steps=2", "--seeds", "0"]
    done = run_tool("paper/benchmark.py", *study)
    assert done.code == 0, done.err
    for record in out.glob("*/seed=0.json"):
        again = record.read_text().replace("seed=0", "seed=1").replace('"seed": 0', '"seed": 1')
        worse = json.loads(again)
        for scores in worse["scores"].values():
            scores["acc"] /= 2
        record.with_name("seed=1.json").write_text(json.dumps(worse))
    done = run_tool("paper/benchmark.py", *study, "1")  # nothing is done again
    assert done.code == 0, done.err
    assert done.out == (out / "table.md").read_text()
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"]) for row in rows[:3:2]] == [
        ("global batch 16", "0"),
        ("k-means on pixels", "0"),
    ]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        mean = (float(first["acc"]) + float(second["acc"])) / 2
        assert float(second["acc"]) == pytest.approx(float(first["acc"]) / 2)
        assert second["seconds"] == first["seconds"]
        assert f"{first['variant']} | {first['scored_by']} | {mean:.3f}".replace("0.", ".", 1) in done.out
    refused = run_tool("paper/benchmark.py", "heads", config, "seed=1", "--out", out)
    assert refused.code == 2
    assert "seed=1: every run's folder and seed are set here" in refused.err


def test_published(config, tmp_path):
    result = found("paper/published.py", config, "--seeds", "5", "--out", tmp_path / "out")
    assert [(run["by"], run["steps"]) for run in result["runs"]] == [("published", 2), ("ccscale", 2)]
    for run in result["runs"]:
        assert 0.33 < run["acc"] < 0.8
        assert result["summary"][run["by"]]["acc"] == {"mean": run["acc"], "spread": None}
    refused = run_tool("paper/published.py", config, "views.raw=1", "--out", tmp_path / "out")
    assert (refused.code, "views.raw" in refused.err) == (2, True)
