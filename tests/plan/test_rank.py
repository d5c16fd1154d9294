"""What a whole step takes of a rank and sends, against what was measured."""

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import small_settings
from harness.ranks import run_ranks
from measure import counted_traffic, peak_bytes

from ccscale.checkpoint.snapshot import take_snapshot
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.views import draw_views
from ccscale.data.pairs import PairBatch
from ccscale.engine.build import LARGEST_BUCKET, build_engine
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.network_cost import Network
from ccscale.plan.rank import RankPlan, passed_views
from ccscale.train.garbage import collect_by_hand
from ccscale.train.loop import Trainer
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

STEPS = [  # ZeRO stage, micro-batches, clip; the largest bucket of gradients
    (0, 1, None, LARGEST_BUCKET),
    (1, 1, None, LARGEST_BUCKET),
    (2, 1, 1.0, LARGEST_BUCKET),
    (0, 2, 1.0, LARGEST_BUCKET),
    (1, 2, None, LARGEST_BUCKET),
    (2, 2, None, LARGEST_BUCKET),
    (1, 1, None, 3_000_000),  # filled four times by a ResNet-18
    (2, 1, None, 3_000_000),
]


def step_config(zero: int, micro_batches: int, clip: float | None) -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "views": {"size": 48, "blur": 0.5, "blur_kernel": 3},
            "model": {
                "backbone": "resnet18",
                "clusters": 5,
                "grad_checkpointing": zero == 2 and micro_batches == 1,
            },
            "train": {
                "global_batch": 32,
                "micro_batch": 32 // micro_batches,
                "zero": zero,
                "ema": 0.9 if zero == 1 else None,
                "clip": clip,
                "device": "cpu",
            },
        }
    )


def steps_on_rank(rank: int, world: int) -> list[tuple[dict[str, int], int, int]]:
    """Return a second step's traffic, the most memory that it took, a checkpoint's, for each of `STEPS`."""
    with counted_traffic() as count:  # DeepSpeed looks the collectives up once in a process
        found = []
        for *step, bucket in STEPS:
            with mock.patch("ccscale.engine.build.LARGEST_BUCKET", bucket):
                found.append(one_step(world, step_config(*step), count))
        return found


def one_step(world: int, config: Config, count: Counter[str]) -> tuple[dict[str, int], int, int]:
    n, size, device = config.train.global_batch // world, config.views.size, torch.device("cpu")
    images = torch.randint(256, (2, n, size, size, 3), dtype=torch.uint8)
    batch = PairBatch(
        0, images, draw_views(config.views, 0, 0, np.arange(n)).colour, (0, 0), (), np.arange(n)
    )
    engine = build_engine(config, ContrastiveClustering(config.model, size), device)
    stepper = Stepper(config, engine, device)
    stepper.take(batch)
    count.clear()
    with collect_by_hand():  # as the loop does it: what is in cycles stays for the step
        peak = peak_bytes(lambda: stepper.take(batch))
    sent = dict(count)
    snapshot = take_snapshot(engine, {})
    return sent, peak, sum(tensor.nbytes for state in snapshot.values() for tensor in state.tensors)


def agreement_of(rank: RankPlan) -> int:
    """Return what is planned for the loop's agreement at a step's end."""
    (entry,) = (entry for entry in rank.sent if entry.what == "agreement at the end")
    assert entry.collective == "all_reduce"
    return entry.bytes


def agreements_on_rank(rank: int, settings: dict[str, Any]) -> list[dict[str, int]]:
    """Train; return what each step's agreement sent."""
    agree, found = Trainer.agree, []
    with counted_traffic() as count:

        def counted(*arguments: Any) -> Any:
            count.clear()
            agreed = agree(*arguments)
            found.append(dict(count))
            return agreed

        with mock.patch.object(Trainer, "agree", counted):
            train_run(parse_config(settings))
    return found


@pytest.mark.dist
def test_the_ranks_agree_by_what_is_planned(shards, tmp_path):
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2)
    config = parse_config(settings)
    rank = RankPlan(config, 2, Network(config, 2, "cpu").measure(passed_views(config, 2)), cuda=False)
    for found in run_ranks(2, agreements_on_rank, settings):
        assert found == [{"all_reduce": agreement_of(rank)}] * 2


@pytest.mark.dist
@pytest.mark.slow
def test_a_step_takes_and_sends_what_is_planned():
    first, second = run_ranks(2, steps_on_rank, 2)
    for what, (sent, peak, checkpoint), (others, another, _) in zip(STEPS, first, second, strict=True):
        *step, bucket = what
        config = step_config(*step)
        rank = RankPlan(config, 2, Network(config, 2, "cpu").measure(passed_views(config, 2)), cuda=False)
        planned = rank.traffic - Counter(all_reduce=agreement_of(rank))  # that is the loop's
        assert others == sent
        assert planned == sent, what
        lasting = (
            "parameters",
            "master weights",
            "Adam's moments",
            "averaged weights",
            "images",
        )  # were there before the step
        with mock.patch("ccscale.plan.engine_cost.LARGEST_BUCKET", bucket):
            before = sum(rank.memory[part][0] for part in lasting if part in rank.memory)
            assert rank.peak - before == pytest.approx(max(peak, another), rel=0.1), what
        assert rank.checkpoint == pytest.approx(checkpoint, rel=0.001), what
