"""What a calibration head takes of a rank and sends, against what was measured."""

from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from measure import counted_traffic, peak_bytes

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.model.heads import make_cluster_heads
from ccscale.plan.calibration_cost import measure_calibration
from ccscale.plan.network_cost import Network
from ccscale.plan.rank import MOMENTS, RankPlan, passed_views
from ccscale.train.boost.calibration import Calibrator

D, CASES = 96, [(256, 10), (64, 100), (2400, 16)]  # N, K; the last one in parts


def config_of(images: int, k: int, **boost: Any) -> Config:
    return parse_config(
        {
            "data": {"features": "nowhere"},
            "model": {"clusters": k, "head_width": 128},
            "train": {"global_batch": images},
            "stages": {"boost": {"epochs": 2, "selection": "calibrated"} | boost},
        }
    )


def steps_on_rank(rank: int, world: int) -> list[tuple[int, dict[str, int]]]:
    """Return the peak and the traffic of a second step, for each of `CASES`."""
    found = []
    for images, k in CASES:
        config = config_of(images, k)
        calibrator = Calibrator(make_cluster_heads(D, config.model), config.model, D, 0)
        features, p = torch.randn(images // world, D), torch.rand(images // world, k).softmax(1)
        calibrator.take(features, p, 0)

        def take(call: Calibrator = calibrator, features: Any = features, p: Any = p) -> None:
            call.take(features, p, 1)

        with counted_traffic() as count:
            take()
            sent = dict(count)
        found.append((peak_bytes(take), sent))
    return found


def check(found: list[tuple[int, dict[str, int]]], world: int) -> None:
    for (images, k), (peak, sent) in zip(CASES, found, strict=True):
        planned = measure_calibration(config_of(images, k), world, D)
        assert planned.peak - planned.kept == pytest.approx(peak, rel=0.1), (images, k)
        assert planned.sent == sent


def test_it_takes_what_is_planned() -> None:
    check(steps_on_rank(0, 1), 1)


@pytest.mark.dist
@pytest.mark.slow
def test_it_takes_and_sends_what_is_planned_on_two_ranks() -> None:
    for found in run_ranks(2, steps_on_rank, 2):
        check(found, 2)


def test_a_plan_counts_it() -> None:
    def plan(**boost: Any) -> RankPlan:
        config = config_of(256, 10, **boost)
        network = Network(config, 2, "cpu", D).measure(passed_views(config, 2))
        return RankPlan(config, 2, network, cuda=False)

    without, threshold, calibrated = plan(epochs=0), plan(selection="threshold"), plan()
    assert tuple(without.totals) == MOMENTS
    assert without.sent[:-1] == tuple(e for e in threshold.sent[:-1] if e.what != "labels")
    image = 256 // 2 * D * 4  # the third view, of each image of a rank
    assert [threshold.totals[at] - without.totals[at] for at in MOMENTS] == [image] * 4
    cost = measure_calibration(calibrated.config, 2, D)
    assert [calibrated.totals[at] - threshold.totals[at] for at in MOMENTS] == [cost.kept] * 4
    assert calibrated.totals["labelling"] - threshold.totals["labelling"] == cost.peak
    assert calibrated.traffic["all_gather"] - threshold.traffic["all_gather"] == cost.sent["all_gather"]
    assert cost.sent["all_gather"] == 256 * (D + 10 + 1) * 4  # features and assignments; how sure it is
    assert calibrated.checkpoint - threshold.checkpoint == cost.kept
