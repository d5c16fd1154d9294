"""When training is expected to end."""

import time
from types import SimpleNamespace

import pytest

from ccscale.train import eta
from ccscale.train.eta import WARM_UP, TimeEstimate

NOW = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch):
    """Stands in for the time; to be set."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    clock = SimpleNamespace(now=0.0, strftime=time.strftime, localtime=time.localtime, time=lambda: NOW)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(eta, "time", clock)
    yield clock
    monkeypatch.undo()
    time.tzset()


class TestTimeEstimate:
    def told(self, clock, capsys, start: int, stop: int, even: bool, first: float, each: float) -> list[str]:
        """Take all steps, the first one in `first` seconds; each is only waited for when the estimate says so."""
        pending = 0.0

        def settle() -> None:
            nonlocal pending
            clock.now, pending = clock.now + pending, 0.0

        estimate = TimeEstimate(start, stop, even, settle)
        for step in range(start + 1, min(stop, start + 30) + 1):
            pending += first if step == start + 1 else each
            estimate.step(step)
        begin, *lines = capsys.readouterr().err.splitlines() or ["running the first step"]
        assert begin == "running the first step"
        return lines

    def test_on_a_cpu(self, clock, capsys):
        assert self.told(clock, capsys, 0, 1001 + WARM_UP, True, 4.0, 2.0) == [
            "the first step took 4 s: the remaining 1,010 take at most 1 h 7 min, until Fri 15 Jan, 09:07",
            "a step takes 2 s: the remaining 1,000 take about 33 min 20 s, until Fri 15 Jan, 08:33",
        ]

    def test_where_the_first_step_tells_nothing_of_the_others(self, clock, capsys):
        assert self.told(clock, capsys, 500, 1501 + WARM_UP, False, 40.0, 0.5) == [
            "the first step took 40 s",
            "a step takes 0.5 s: the remaining 1,000 take about 8 min 20 s, until Fri 15 Jan, 08:08",
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
        TimeEstimate(4, 4, True, lambda: None)
        TimeEstimate(42, 28, True, lambda: None)
        assert capsys.readouterr().err == ""

    def test_the_device_is_waited_for_twice(self):
        waits: list[int] = []
        estimate = TimeEstimate(5, 1000, False, lambda: waits.append(1))
        for step in range(6, 300):
            estimate.step(step)
        assert len(waits) == 2

    def test_only_the_first_rank_speaks(self, clock, capsys, monkeypatch):
        monkeypatch.setattr("ccscale.dist.rank", lambda: 1)
        assert self.told(clock, capsys, 0, 1001 + WARM_UP, True, 4.0, 2.0) == []
