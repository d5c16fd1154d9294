"""What tools find and compare with is right: their checks fail where there is something to find."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from harness.tools import TOOLS
from lives import Life, spawn
from runs import BOUNDS, SAME, difference

from ccscale.errors import InputError
from ccscale.loss import cluster_loss, instance_loss

STEP = {"batch_digest": "0a", "loss": 2.0, "instance_loss": 1.0, "cluster_loss": 1.0}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of tools/faults."""
    monkeypatch.syspath_prepend(str(TOOLS / "faults"))
    return lambda name: __import__(name)


def facts(weights: str = "f00", **changes: object) -> dict[str, object]:
    return {"step 1": STEP | changes, "weights": weights}


@pytest.mark.parametrize(
    ("found", "tolerance", "different"),
    [
        (facts(), 0, []),
        (facts(loss=2 + 2e-6), 0, ["step 1"]),
        (facts(loss=2 + 2e-6), 1e-5, []),
        (facts(loss=2 + 2e-4), 1e-5, ["step 1"]),
        (facts(loss=float("nan")), 1e-5, ["step 1"]),
        (facts(batch_digest="0b"), 1e-5, ["step 1"]),
        (facts("f01"), 0, ["weights"]),
        (facts("f01"), 1e-5, []),
        ({"step 1": STEP}, 1e-5, ["weights"]),
    ],
)
def test_facts_are_held_to_bits_or_to_a_tolerance(faults, found, tolerance, different):
    assert faults("commands").compare(facts(), found, tolerance)[0] == different


def test_two_runs_are_told_apart():
    assert (BOUNDS, SAME) == ({"fp64": 1e-8, "fp32": 1e-3}, 0)
    assert difference([STEP], [STEP]) == (True, 0)
    assert difference([STEP | {"batch_digest": "0b"}], [STEP]) == (False, 0)
    assert difference([STEP | {"loss": 2.002}], [STEP]) == (True, pytest.approx(1e-3))
    with pytest.raises(RuntimeError, match="1 steps were taken, and 2"):
        difference([STEP], [STEP, STEP])


def test_what_does_not_end_is_told(faults, monkeypatch):
    kills = faults("kills")
    monkeypatch.setattr(kills, "ORPHAN_SECONDS", 0.2)
    monkeypatch.setattr(kills, "SURVIVOR_SECONDS", 0.2)
    life = Life(spawn([sys.executable, "-c", "import time; time.sleep(60)"]), 2)
    with pytest.raises(RuntimeError, match="outlive their parents"):
        kills.wait_for_end(life.groups)
    life.kill_process(1)
    assert kills._end_survivors(life, "rank 1").startswith("killed after")
    assert life.wait(60)


def test_the_published_formulation_computes_the_same_losses(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS / "paper"))
    formulation = __import__("formulation")
    torch.manual_seed(0)
    drawn = [torch.randn(12, 5, dtype=torch.float64) for _ in range(2)]
    z, p = [F.normalize(rows) for rows in drawn], [rows.softmax(dim=1) for rows in drawn]
    torch.testing.assert_close(formulation.whole_instance_loss(*z, 0.5), instance_loss(*z, 0.5))
    torch.testing.assert_close(formulation.whole_cluster_loss(*p, 0.7), cluster_loss(*p, 0.7))


def raise_another_error() -> None:
    raise KeyError("x")


def talk() -> None:
    raise InputError("two\nlines")


def hoard() -> None:
    assert len(bytearray(b"x") * 2**27) > 0


@pytest.mark.parametrize(
    ("harm", "what"),
    [(raise_another_error, "KeyError"), (talk, "several lines"), (hoard, "MiB of memory")],
)
def test_the_fuzzer_finds_and_saves(faults, harm, what, tmp_path: Path, monkeypatch, capsys):
    fuzz = faults("fuzz")
    monkeypatch.setattr(fuzz, "MEMORY", 2**26)

    def read(data: bytes, folder: Path) -> None:
        if 3 < len(data) < 2000:
            harm()

    monkeypatch.setitem(fuzz.TARGETS, "tar", (*fuzz.TARGETS["tar"][:2], read))
    assert fuzz.main(["tar", "--seconds", "0.01", "--seed", "7", "--save", str(tmp_path)]) == 1
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert len((tmp_path / f"{found}.bin").read_bytes()) == 4
    assert what in (tmp_path / f"{found}.txt").read_text()
