"""The log as curves: which panels there are, and that thinning keeps the mean."""

import numpy as np
import pytest
from harness.report_examples import ADVICE, TRIED

from ccscale.report.curves import POINTS, advice, panels


def steps(count, **more):
    return [{"kind": "step", "step": i, "loss": 1 / i, "lr": 0.1, **more} for i in range(1, count + 1)]


def test_short_logs_are_shown_as_they_are():
    (found,) = panels([steps(7)])
    assert found["title"] == "Losses"
    (series,) = found["series"]
    assert (series["name"], series["run"], series["every"]) == ("total", 0, 1)
    assert series["x"] == list(range(1, 8))
    assert series["y"] == pytest.approx([1 / i for i in range(1, 8)], rel=1e-4)


def test_long_logs_are_averaged():
    count = 3 * POINTS + 17
    (series,) = panels([steps(count)])[0]["series"]
    assert len(series["x"]) == len(series["y"]) == POINTS
    assert series["every"] == 4
    assert series["x"][-1] == count
    ends = [0, *series["x"]]
    for i in (0, 1, 250, POINTS - 1):
        values = [1 / step for step in range(ends[i] + 1, ends[i + 1] + 1)]
        assert series["y"][i] == pytest.approx(np.mean(values), rel=1e-4)


def test_what_is_missing_or_not_finite_is_left_out():
    lines = [
        *steps(2),
        {"kind": "step", "step": 3, "loss": None, "lr": 0.1},
        {"kind": "note", "step": 4, "loss": 5.0},
    ]
    (found,) = panels([lines])
    assert found["series"][0]["x"] == [1, 2]
    assert panels([[]]) == []


def test_the_last_line_of_a_step_counts_and_steps_rise():
    lines = [
        {"kind": "evaluation", "step": step, "acc": acc} for step, acc in ((20, 0.5), (10, 0.2), (20, 0.6))
    ]
    (found,) = panels([lines])
    assert (found["series"][0]["x"], found["series"][0]["y"]) == ([10, 20], [0.2, 0.6])


def test_a_learning_rate_that_changes_has_a_panel():
    lines = [line | {"lr": 0.1 * line["step"]} for line in steps(3)]
    assert [panel["title"] for panel in panels([lines])] == ["Losses", "Learning rate"]


def test_two_runs_share_the_panels():
    other = [{"kind": "evaluation", "step": 5, "nmi": 0.4}]
    losses, scores = panels([steps(3), [*steps(4), *other]])
    assert [series["run"] for series in losses["series"]] == [0, 1]
    assert [series["run"] for series in scores["series"]] == [1]


def test_advice_has_a_panel_for_each_criterion():
    found = advice(ADVICE)
    assert [panel["title"] for panel in found["panels"]] == ["Stability", "Coding"]
    assert [panel["mark"] for panel in found["panels"]] == [4, 12]
    assert all(panel["shaded"] == [4, 12] for panel in found["panels"])
    assert all(series["x"] == TRIED for panel in found["panels"] for series in panel["series"])
    assert "shaded" not in advice(ADVICE | {"seen": False})["panels"][0]
    assert advice(None) is None
