"""What a run logs: a line a step and an evaluation, each once, whatever happened to the file before."""

import json
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccscale.checkpoint.metrics_file import METRICS
from ccscale.train.log import RunLog, evaluation_line


def record(step: int, loss: float = 1.5) -> dict[str, Any]:
    """Return a step as the loop gives it: the losses are tensors."""
    values = {"loss": loss, "instance_loss": loss / 3, "cluster_loss": loss / 1.5}
    return {
        "step": step,
        "epoch": 1,
        **{name: torch.tensor(value) for name, value in values.items()},
        "lr": 3e-4,
        "batch_digest": "0123456789abcdef",
    }


def open_log(folder: Path, start: int = 0, every: int = 1, write: bool = True) -> RunLog:
    return RunLog(folder, start, 10, every, images=16, write=write)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


class TestRecords:
    def test_line_of_a_step(self, tmp_path):
        before = time.time()
        with open_log(tmp_path) as log:
            log.step(record(1))
        (line,) = lines(tmp_path)
        assert before <= line.pop("time") <= time.time()
        assert line.pop("images_per_second") > 0
        assert line == {
            "kind": "step",
            "step": 1,
            "epoch": 1,
            "loss": 1.5,
            "instance_loss": 0.5,
            "cluster_loss": 1.0,
            "lr": 3e-4,
            "batch_digest": "0123456789abcdef",
        }

    def test_losses_keep_their_digits(self, tmp_path):
        with open_log(tmp_path) as log:
            log.step(record(1) | {"loss": torch.tensor(1 / 3, dtype=torch.float64)})
        assert lines(tmp_path)[0]["loss"] == 1 / 3

    def test_steps_are_put_off_and_none_is_lost(self, tmp_path):
        with open_log(tmp_path) as log:
            for step in range(1, 6):
                log.step(record(step))
            assert not (tmp_path / METRICS).exists()
            log.flush()
            assert len(lines(tmp_path)) == 5
            log.step(record(6))
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]

    def test_pending_steps_are_written_when_training_fails(self, tmp_path):
        """The failure is what is raised, not the loss that is no number."""

        def train() -> None:
            with open_log(tmp_path, every=100) as log:
                log.step(record(1))
                log.step(record(2, math.nan))
                raise RuntimeError("out of memory")

        with pytest.raises(RuntimeError, match="out of memory"):
            train()
        assert [line["step"] for line in lines(tmp_path)] == [1, 2]

    def test_evaluation_comes_after_the_steps_before_it(self, tmp_path):
        with open_log(tmp_path, every=100) as log:
            log.step(record(1))
            log.evaluation({"step": 1, "epoch": 1, "splits": ("train",), "acc": 0.5, "sizes": [3, 4]})
        assert [line["kind"] for line in lines(tmp_path)] == ["step", "evaluation"]
        evaluation = lines(tmp_path)[1]
        assert (evaluation["acc"], evaluation["splits"], evaluation["sizes"]) == (0.5, ["train"], [3, 4])

    def test_time_of_an_evaluation_or_a_save_is_not_a_step_s(self, tmp_path):
        with open_log(tmp_path) as log:
            log.step(record(1))
            time.sleep(0.2)
            log.skip_time()
            log.step(record(2))
            time.sleep(0.2)
            log.evaluation({"step": 2, "epoch": 1})
            log.step(record(3))
            time.sleep(0.2)
            log.step(record(4))
        rates = {
            line["step"]: line["images_per_second"] for line in lines(tmp_path) if line["kind"] == "step"
        }
        assert rates[4] < 16 / 0.2
        assert min(rates[2], rates[3]) > 16 / 0.2

    def test_goes_on_from_a_checkpoint(self, tmp_path):
        """Steps after the checkpoint are taken again, and stand in the file once."""
        with open_log(tmp_path) as log:
            for step in range(1, 6):
                log.step(record(step, loss=1))
        with open_log(tmp_path, start=3) as log:
            for step in range(4, 7):
                log.step(record(step, loss=2))
        assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
            (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)
        ]  # fmt: skip

    def test_other_ranks_write_nothing(self, tmp_path, capfd):
        with open_log(tmp_path, write=False) as log:
            log.step(record(1))
            log.evaluation({"step": 1, "epoch": 1})
        assert list(tmp_path.iterdir()) == []
        assert capfd.readouterr() == ("", "")

    def test_tensorboard(self, tmp_path):
        with open_log(tmp_path) as log:
            log.step(record(1, loss=3))
            log.step(record(2, loss=6))
            log.evaluation({"step": 2, "epoch": 1, "acc": 0.5, "splits": ("train",), "sizes": [1, 2]})
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        tags = set(events.Tags()["scalars"])
        assert {"train/loss", "train/instance_loss", "train/cluster_loss", "train/lr", "evaluate/acc"} <= tags
        assert not {"train/step", "train/time", "evaluate/sizes", "train/batch_digest"} & tags
        assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 3), (2, 6)]


def test_it_says_when_steps_are_to_be_flushed_together(tmp_path):
    with open_log(tmp_path, every=3) as log:
        due = []
        for step in range(1, 5):
            log.step(record(step))
            due.append(log.is_due)
            if log.is_due:
                log.flush()
    assert due == [False, False, True, False]


def test_the_record_of_a_step_is_left_as_it_is(tmp_path):
    with open_log(tmp_path) as log:
        given = record(1)
        log.step(given)
    assert set(given) == set(record(1))


def test_line_for_people():
    summary = {"clusters": 10, "empty": 2, "largest": 0.256, "confidence": 0.5, "labelled": 0}
    assert evaluation_line(summary) == "8 of 10 clusters used, the largest 26%, confidence 0.50, no labels"
    scored = summary | {"labelled": 4, "acc": 0.1234, "nmi": 0.5, "ari": 1.0, "f": 0.3}
    assert evaluation_line(scored) == (
        "ACC 0.123, NMI 0.500, ARI 1.000, 8 of 10 clusters used, the largest 26%, confidence 0.50"
    )


def test_shows_how_far_it_is(tmp_path, capfd):
    with open_log(tmp_path, start=4) as log:
        log.step(record(5))
    out, err = capfd.readouterr()
    assert out == ""
    assert "training: 5 of 10 steps" in err
    assert "epoch 1, loss 1.5000" in err


class TestDiskThatTakesNothing:
    @pytest.fixture
    def full(self, tmp_path, monkeypatch):
        """A disk on which writes to the log fail half-way while the flag is set."""
        full, real = [True], open

        @contextmanager
        def opened_full(*arguments, **options):
            with real(*arguments, **options) as file:

                class Full:
                    def writelines(self, lines):
                        file.write(next(iter(lines))[:5])
                        file.flush()
                        raise OSError(28, "No space left on device")

                yield Full()

        def opened(path, mode="r", **options):
            return (opened_full if full and mode == "a" else real)(path, mode, **options)

        monkeypatch.setattr("builtins.open", opened)
        return full

    def test_lines_are_kept_and_written_later(self, tmp_path, full, capfd):
        with open_log(tmp_path) as log:
            for step in (1, 2):
                log.step(record(step))
            log.evaluation({"step": 2, "epoch": 1})
            assert (tmp_path / METRICS).read_bytes() == b""
            full.clear()
            log.step(record(3))
        assert [(line["step"], line["kind"]) for line in lines(tmp_path)] == [
            (1, "step"), (2, "step"), (2, "evaluation"), (3, "step")
        ]  # fmt: skip
        said = capfd.readouterr().err
        assert said.count("cannot be written (No space left on device); the run continues") == 1
        assert said.count("can be written again: 4 missing lines were added") == 1
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
