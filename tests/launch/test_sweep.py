"""Settings to try become runs."""

from pathlib import Path

import pytest
from conftest import write_config

from ccscale.errors import InputError
from ccscale.launch.sweep import expand


@pytest.fixture
def config(tmp_path: Path) -> str:
    settings = {
        "run": "runs/r",
        "data": {"shards": "s"},
        "model": {"clusters": 4},
        "train": {"global_batch": 16},
    }
    return str(write_config(tmp_path, settings))


def test_without_a_sweep_there_is_the_run_itself(config):
    (found,) = expand(config, ["seed=7"], [], 1)
    assert (found.run, found.seed) == ("runs/r", 7)


def test_each_with_each_the_last_running_fastest(config):
    found = expand(config, ["train.epochs=3"], ["seed=0,1", "train.lr=1e-3,0.01"], 2)
    assert [(c.run, c.seed, c.train.lr, c.train.epochs) for c in found] == [
        ("runs/r/seed=0,train.lr=1e-3", 0, 0.001, 3),
        ("runs/r/seed=0,train.lr=0.01", 0, 0.01, 3),
        ("runs/r/seed=1,train.lr=1e-3", 1, 0.001, 3),
        ("runs/r/seed=1,train.lr=0.01", 1, 0.01, 3),
    ]


def test_commas_in_brackets_part_no_values(config):
    found = expand(config, [], ["data.splits=[a,b],[c]"], 1)
    assert [c.data.splits for c in found] == [("a", "b"), ("c",)]


def test_no_value_leads_out_of_the_run_s_folder(config):
    found = expand(config, [], ["data.shards=../../x y,/z"], 1)
    assert [c.data.shards for c in found] == ["../../x y", "/z"]
    assert [c.run for c in found] == ["runs/r/data.shards=.._.._x_y", "runs/r/data.shards=_z"]


@pytest.mark.parametrize(
    ("sweeps", "ranks", "expected"),
    [
        (["seed"], 1, "--sweep 'seed' is not a sweep; write key=a,b,c"),
        (["=1,2"], 1, "--sweep '=1,2' is not a sweep"),
        (["seed=1,,2"], 1, "--sweep 'seed=1,,2' is not a sweep"),
        (["seed=1", "seed=2"], 1, "--sweep has seed twice"),
        (["run=a,b"], 1, "--sweep run=... is not needed"),
        (["seed=1,1"], 1, "two runs of the sweep have the same folder runs/r/seed=1"),
        (["data.shards=a/b,a_b"], 1, "two runs of the sweep have the same folder runs/r/data.shards=a_b"),
        (["seed=1,-1"], 1, "'seed' is -1"),
        (["train.lrr=1,2"], 1, "there is no key 'train.lrr'; did you mean 'train.lr'"),
        (
            ["train.global_batch=16,24"],
            16,
            "16 ranks do not divide the 24 lanes of this run; start 1, 2, 3, 4, 6",
        ),
    ],
)
def test_mistakes_of_any_run_are_found(config, sweeps, ranks, expected):
    with pytest.raises(InputError) as error:
        expand(config, [], sweeps, ranks)
    assert expected in str(error.value)
