"""A log on its way to a tracker that is slow, away, or back again: each line once, and training never waits."""

import threading
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from harness.configs import LEAST

from ccscale.config.file import parse_config
from ccscale.errors import InputError
from ccscale.train.log import RunLog
from ccscale.train.trackers import sending, trackers
from ccscale.train.trackers.sending import Sending
from ccscale.train.trackers.tracker import End, Line, Sent, figures


class Somewhere:
    """A tracker that keeps what it gets; `fails` is asked before each call."""

    title, file, remedy = "Somewhere", "somewhere.json", "ask again"

    def __init__(self, place: str = "there", fails: Callable[[], Any] = lambda: None) -> None:
        self.place, self.fails = place, fails
        self.got, self.begun, self.end = list[tuple[str, int, float]](), list[str | None](), list[End]()

    def open(self, run: str | None, sent: Sent) -> tuple[str, Sent]:
        self.fails()
        self.begun.append(run)
        return run or f"new at {self.place}", sent

    def add(self, lines: Sequence[Line], sent: Sent) -> None:
        self.fails()
        self.got += [(line["kind"], line["step"], line.get("loss", -1)) for line in lines]

    def close(self, end: End) -> None:
        self.fails()
        self.end.append(end)


def train(
    folder: Path, tracker: Somewhere, start: int, stop: int, loss: float, end: End = "finished"
) -> None:
    """Log the steps of a start, with an evaluation after each even one."""
    going = Sending(folder, tracker)
    with RunLog(folder, start, 10, 1, images=16, write=True, tell=going.tell) as log:
        for step in range(start + 1, stop + 1):
            log.step({"step": step, "epoch": 1, "loss": loss})
            log.flush()
            if step % 2 == 0:
                log.evaluation({"step": step, "epoch": 1, "acc": 0.5})
    going.close(end)


def steps(tracker: Somewhere) -> list[tuple[int, float]]:
    return [(step, loss) for kind, step, loss in tracker.got if kind == "step"]


def test_each_line_goes_once_whatever_is_taken_again(tmp_path):
    """A kill after step 5, of which the checkpoint of step 3 is left: 4 and 5 stay as they were sent."""
    tracker = Somewhere()
    train(tmp_path, tracker, 0, 5, loss=1.0, end="stopped")
    train(tmp_path, tracker, 3, 8, loss=2.0)
    assert steps(tracker) == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 2)]
    assert [step for kind, step, _ in tracker.got if kind == "evaluation"] == [2, 4, 6, 8]
    assert tracker.begun == [None, "new at there"]
    assert tracker.end == ["stopped", "finished"]


def test_another_place_gets_all_from_the_beginning(tmp_path):
    """So does a tracker that is asked for when the run is under way, and one whose notes are damaged."""
    train(tmp_path, Somewhere(), 0, 4, loss=1.0)
    for place, damage in (("elsewhere", False), ("elsewhere", True)):
        if damage:
            (tmp_path / "somewhere.json").write_text('{"place": "elsewhere"')
        other = Somewhere(place)
        train(tmp_path, other, 4, 5, loss=1.0)
        assert [step for step, _ in steps(other)] == [1, 2, 3, 4, 5]
        assert other.begun == [None]


def test_what_is_away_is_told_once_and_gets_all_when_it_is_back(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sending, "AGAIN", 0.01)
    asked, back = [0], threading.Event()

    def fails() -> None:
        asked[0] += 1
        if not back.is_set():
            raise ConnectionError("nobody there\nsecond line")

    tracker = Somewhere(fails=fails)
    going = Sending(tmp_path, tracker)
    with RunLog(tmp_path, 0, 10, 1, images=16, write=True, tell=going.tell) as log:
        for step in range(1, 5):
            log.step({"step": step, "epoch": 1, "loss": 1.0})
            log.flush()
        while asked[0] < 3:
            time.sleep(0.01)
        back.set()
    going.close("finished")  # at this moment it counts as away
    assert [step for step, _ in steps(tracker)] == [1, 2, 3, 4]
    assert tracker.end == ["finished"]
    said = capfd.readouterr().err
    assert said.count("cannot send figures to Somewhere (nobody there); training continues") == 1
    assert said.count("is reachable again and has received the missing figures") == 1
    assert "ask again" not in said


@pytest.mark.parametrize("hangs", [True, False])
def test_nothing_waits_for_what_is_away(tmp_path, monkeypatch, capfd, hangs):
    stuck = threading.Event()

    def fails() -> None:
        if hangs:
            stuck.wait(20)
        raise ConnectionError("nobody there")

    tracker = Somewhere(fails=fails)
    begin = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(sending, "PATIENCE", 0.1)
        train(tmp_path, tracker, 0, 6, loss=1.0)
    assert time.monotonic() - begin < 8  # and not 20
    assert "warning: Somewhere is missing part of this run: ask again" in capfd.readouterr().err
    stuck.set()
    later = Somewhere()
    train(tmp_path, later, 6, 6, loss=1.0)  # the same command again, with nothing left to train
    assert [step for step, _ in steps(later)] == [1, 2, 3, 4, 5, 6]


def test_figures_are_filed_by_kind():
    line = {
        "kind": "evaluation",
        "step": 3,
        "time": 1.0,
        "acc": 0.5,
        "sizes": [1, 2],
        "nmi": None,
        "chosen": "x",
    }
    assert figures(line) == {"evaluate/acc": 0.5}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(shards, refused, tmp_path, monkeypatch, name):
    """A folder of the package's name, as W&B leaves one behind, is no package."""
    nothing = ModuleSpec(
        name, None, origin=None, is_package=True
    )  # a namespace: what Python makes of a folder
    monkeypatch.setattr(trackers, "find_spec", lambda asked: nothing)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path}/run\ndata: {{shards: {shards}}}\nmodel: {{clusters: 3}}\nlog: {{{name}: photos}}\n"
    )
    assert f"pip install 'ccscale[{name}]'" in refused("train", config)


def test_mlflow_without_a_server(monkeypatch):
    config = parse_config(LEAST, ["log.mlflow=photos"])
    monkeypatch.setattr(trackers, "_is_installed", lambda name: name != "sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="set the variable MLFLOW_TRACKING_URI"):
        trackers.check_trackers(config)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    trackers.check_trackers(config)
