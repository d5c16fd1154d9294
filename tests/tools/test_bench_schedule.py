"""tools/bench_schedule.py measures what it says, on small data and in this process."""

import json

import pytest
from bench_schedule import main, shard_sizes


def test_shards_differ_and_sum_up():
    sizes = shard_sizes(1_000_000, 100, 0)
    assert (len(sizes), sum(sizes)) == (100, 1_000_000)
    assert 8000 * 0.95 < min(sizes) < 9000 < 11_000 < max(sizes) < 12_000 * 1.05
    assert sizes == shard_sizes(1_000_000, 100, 0) != shard_sizes(1_000_000, 100, 1)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("bench_schedule._alone", lambda measure, *arguments: measure(*arguments))
    monkeypatch.setattr("bench_schedule.LANES", 64)
    monkeypatch.setattr("bench_schedule.GLOBAL_BATCH", 1024)
    monkeypatch.setattr("bench_schedule.WORLDS", (64, 1))


def test_prints_json(small, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_schedule.py", "--samples", "300000", "--shards", "30", "--json"])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["samples"], result["shards"], result["lanes"]) == (300_000, 30, 64)
    one, all_lanes = result["ranks"]["64"], result["ranks"]["1"]
    # All lanes' blocks of 1,024 numbers are held, beside the order of 75,000 pieces.
    assert all_lanes["peak_mb"] > one["peak_mb"] >= 2 * 75_000 * 8 / 1e6
    assert all(figures[name] > 0 for figures in (one, all_lanes) for name in figures if name != "resident_mb")
    assert 0.02 < result["manifest"]["pickled_mb"] * 10 < 0.1


def test_prints_a_table(small, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_schedule.py", "--samples", "300000", "--shards", "30"])
    assert main() == 0
    head, _, titles, one, all_lanes, _, manifest = capsys.readouterr().out.splitlines()
    assert head.startswith(
        "300,000 samples in 30 shards, global batch 1,024, 64 lanes, blocks of 1024, pieces of 4"
    )
    assert [line.split()[:2] for line in (one, all_lanes)] == [["64", "1"], ["1", "64"]]
    assert titles.startswith("ranks  lanes each  schedule ms")
    assert manifest.startswith("manifest: 0.0 MB, read and checked in 0.")


@pytest.mark.parametrize(
    ("samples", "shards"), [("20000000", "0"), ("20000000", "20000001"), ("10000000", "9")]
)
def test_refuses(monkeypatch, capsys, samples, shards):
    monkeypatch.setattr("sys.argv", ["bench_schedule.py", "--samples", samples, "--shards", shards])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert "at least 16777216, and --shards from 1 to --samples" in capsys.readouterr().err
