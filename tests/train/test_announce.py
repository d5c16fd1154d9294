"""What training tells of itself as it starts, and when it expects to end."""

import time
from types import SimpleNamespace

import pytest
import torch
from conftest import small_settings

from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.train import announce
from ccscale.train.announce import WARM_UP, Forecast, going_on, introduce

CPU = torch.device("cpu")
NOW = 1_800_000_000.0


class TestIntroduction:
    def lines(self, shards, manifest, capsys, *overrides: str, device: torch.device = CPU) -> list[str]:
        config = parse_config(small_settings(shards, shards / "none"), overrides)
        schedule = make_schedule(config, manifest.select(config.data.splits), 1)
        steps = config.train.epochs * schedule.steps_per_epoch
        introduce(config, manifest, schedule, device, min(steps, config.train.max_steps or steps))
        return capsys.readouterr().err.splitlines()

    def test_device_images_and_steps(self, shards, manifest, capsys):
        threads = torch.get_num_threads()
        assert self.lines(shards, manifest, capsys) == [
            f"training on 1 rank: the CPU, {threads} thread{'s' if threads > 1 else ''}",
            "folder: 150 images of train; 9 steps of 16 images an epoch, 2 epochs: 18 steps",
        ]

    def test_a_run_that_is_cut_short(self, shards, manifest, capsys):
        overrides = ["train.max_steps=7", "train.epochs=1000"]
        assert self.lines(shards, manifest, capsys, *overrides)[1].endswith(
            "1,000 epochs: 9,000 steps, of which train.max_steps takes 7"
        )

    def test_phases(self, shards, manifest, capsys):
        phases = "data.phases=[{splits: train, losses: instance}, {splits: train}]"
        assert self.lines(shards, manifest, capsys, phases)[1] == (
            "folder: 150 images of train; 18 steps of 16 images an epoch in 2 phases, 2 epochs: 36 steps"
        )

    def test_that_no_gpu_is_found(self, shards, manifest, capsys, monkeypatch):
        assert self.lines(shards, manifest, capsys, "train.device=auto")[0].endswith(
            " (torch sees no CUDA device)"
        )

    def test_gpus(self, shards, manifest, capsys, monkeypatch):
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H100")
        gpu = torch.device("cuda", 0)
        (line, _) = self.lines(shards, manifest, capsys, device=gpu)
        assert line == "training on 1 rank: one NVIDIA H100"
        monkeypatch.setattr("ccscale.dist.world", lambda: 8)
        (line, _) = self.lines(shards, manifest, capsys, device=gpu)
        assert line == "training on 8 ranks: one NVIDIA H100 each"

    def test_only_the_first_rank_speaks(self, shards, manifest, capsys, monkeypatch):
        monkeypatch.setattr("ccscale.dist.rank", lambda: 1)
        assert self.lines(shards, manifest, capsys) == []


@pytest.fixture
def clock(monkeypatch):
    """Stands in for the time; to be set."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    clock = SimpleNamespace(now=0.0, strftime=time.strftime, localtime=time.localtime, time=lambda: NOW)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(announce, "time", clock)
    yield clock
    monkeypatch.undo()
    time.tzset()


class TestForecast:
    def told(self, clock, capsys, start: int, stop: int, even: bool, first: float, each: float) -> list[str]:
        """Take all steps, the first one in `first` seconds; each is only waited for when the forecast says so."""
        pending = 0.0

        def settle() -> None:
            nonlocal pending
            clock.now, pending = clock.now + pending, 0.0

        forecast = Forecast(start, stop, even, settle)
        for step in range(start + 1, min(stop, start + 30) + 1):
            pending += first if step == start + 1 else each
            forecast.step(step)
        begin, *lines = capsys.readouterr().err.splitlines() or ["taking the first step"]
        assert begin == "taking the first step"
        return lines

    def test_on_a_cpu(self, clock, capsys):
        assert self.told(clock, capsys, 0, 1001 + WARM_UP, True, 4.0, 2.0) == [
            "the first step took 4 s: the 1,010 that are left take at most 1 h 7 min, until Fri 15 Jan, 09:07",
            "a step takes 2 s: the 1,000 that are left take about 33 min 20 s, until Fri 15 Jan, 08:33",
        ]

    def test_where_the_first_step_tells_nothing_of_the_others(self, clock, capsys):
        assert self.told(clock, capsys, 500, 1501 + WARM_UP, False, 40.0, 0.5) == [
            "the first step took 40 s",
            "a step takes 0.5 s: the 1,000 that are left take about 8 min 20 s, until Fri 15 Jan, 08:08",
        ]

    def test_days_are_warned_of(self, clock, capsys):
        lines = self.told(clock, capsys, 0, 100_011, True, 4.0, 2.0)
        assert "take at most 4 days 15 h, until Tue 19 Jan, 23:07" in lines[0]
        assert lines[1].startswith("warning: that is days; a GPU, more ranks, or a smaller model.backbone")
        assert "take about 2 days 8 h" in lines[2]
        assert lines[3] == lines[1]
        assert len(lines) == 4

    def test_nothing_of_a_run_of_one_step(self, clock, capsys):
        assert self.told(clock, capsys, 3, 4, True, 4.0, 2.0) == []

    def test_of_two_steps(self, clock, capsys):
        assert self.told(clock, capsys, 3, 5, True, 4.0, 2.0) == [
            "the first step took 4 s: the last one takes at most 4 s, until Fri 15 Jan, 08:00"
        ]

    def test_nothing_of_a_run_that_is_done(self, capsys):
        Forecast(4, 4, True, lambda: None)
        Forecast(42, 28, True, lambda: None)
        assert capsys.readouterr().err == ""

    def test_the_device_is_waited_for_twice(self):
        waits: list[int] = []
        forecast = Forecast(5, 1000, False, lambda: waits.append(1))
        for step in range(6, 300):
            forecast.step(step)
        assert len(waits) == 2

    def test_only_the_first_rank_speaks(self, clock, capsys, monkeypatch):
        monkeypatch.setattr("ccscale.dist.rank", lambda: 1)
        assert self.told(clock, capsys, 0, 1001 + WARM_UP, True, 4.0, 2.0) == []


def test_where_a_run_goes_on():
    assert going_on(6, 28, False) == "going on from step 6 of 28"
    assert going_on(0, 28, True) == (
        "going on from step 0 of 28: its first checkpoint was cut off while it was being saved"
    )
    assert going_on(28, 28, False) == "going on from step 28 of 28: there is nothing left to do"
    assert going_on(42, 28, False) == "step 42 is done, and the run ends at 28: there is nothing left to do"
