"""Memory and communication of a calibration head, measured on a step of it (`meter.py`)."""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ccscale.config import Config, Model
from ccscale.engine.build import weight_dtype
from ccscale.model.heads import make_cluster_heads
from ccscale.plan.meter import CostMeter, fake_ranks
from ccscale.plan.network_cost import make_fake
from ccscale.train.boost.calibration import Calibrator


@dataclass(frozen=True)
class CalibrationCost:
    """Bytes on one rank.

    Attributes
    ----------
    kept
        Between steps: the calibration head and Adam's moments. A checkpoint has them.
    peak
        The most that is held at any moment of its step, `kept` with it.
    sent, calls
        Payload by collective, and in how many calls.
    """

    kept: int
    peak: int
    sent: Counter[str]
    calls: Counter[str]


def measure_calibration(config: Config, world: int, width: int) -> CalibrationCost:
    """Take a step of the calibration head of a run.

    Parameters
    ----------
    config
        The run's config; `world` ranks divide its global batch.
    world
        Number of ranks.
    width
        D, of the features.
    """
    kind = weight_dtype(config.train)
    return _measure(config.model, config.train.global_batch // world, width, kind, world)


@cache
def _measure(model: Model, images: int, width: int, kind: torch.dtype, world: int) -> CalibrationCost:
    with torch.device("meta"):
        head = make_cluster_heads(width, model)
    with fake_ranks(world), FakeTensorMode():
        make_fake(head, "cpu", kind)
        features = torch.empty(images, width, dtype=kind)
        p = torch.empty(images, model.trained_clusters[0], dtype=kind)
        meter = CostMeter([*head.parameters(), *head.buffers(), features, p])
        with meter:
            calibrator = Calibrator(head, model, width, 0)
            calibrator.take(features, p, 0)  # Adam's moments come
            kept = meter.held
            for count in (meter.sent, meter.calls):
                count.clear()
            meter.most = kept
            calibrator.take(features, p, 1)
    return CalibrationCost(kept, meter.most, +meter.sent, +meter.calls)
