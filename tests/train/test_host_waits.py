"""In a step the host asks the device for nothing: on a GPU it would wait for all that was handed over before."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from harness.ranks import run_ranks
from harness.steps import TEMI, N, batch_of, config_of, network_of
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ccscale.config import LOSSES, Config
from ccscale.data.images.views import draw_views
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import PairBatch
from ccscale.data.remote.retry import Closing
from ccscale.data.ring import Allot
from ccscale.engine.build import build_engine
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.boost.stage import BoostStage
from ccscale.train.feed import Feed
from ccscale.train.step import Stepper

ASKING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "is_nonzero",
    "unique",
    "_unique2",
    "allclose",
)
"""aten's operators that give the host a number, or a tensor whose size it must know."""
READING = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}
"""What reads a tensor of the host's without an operator."""


class Asked(TorchDispatchMode):
    """Counts what gives the host a value."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in ASKING or by_mask:
            self.times[name] += 1
        return function(*args, **(kwargs or {}))


class Read(TorchFunctionMode):
    """Counts what reads a tensor's memory."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in READING:
            self._asked.times[function.__name__] += 1
        return function(*args, **(kwargs or {}))


CASES: list[tuple[int | None, dict[str, Any]]] = [
    (None, {"zero": 0, "precision": "fp32"}),
    (None, {"zero": 1, "precision": "bf16"}),
    (None, {"zero": 2, "precision": "fp32", "optimizer": "adamw", "ema": 0.9}),
    (None, {"zero": 0, "precision": "fp32", "clip": 0.1}),
    (None, {"zero": 1, "precision": "fp32", "clip": 0.1}),
    (None, {"zero": 2, "precision": "bf16", "clip": 0.1}),
    (None, {"zero": 0, "precision": "fp32", "boost": {"selection": "calibrated"}}),
    (4, {"zero": 0, "precision": "fp32", "model": {"drop_path": 0.5, "dropout": 0.3}}),
    (4, {"zero": 2, "precision": "fp32", **TEMI}),
]


def steps(device: torch.device, micro: int | None, settings: dict[str, Any]) -> Counter[str]:
    """Return what was asked in steps after the first, by both losses, by one of them and by labels."""
    config = config_of("test_vit" if micro else "test_resnet", micro, **settings)
    stepper = Stepper(config, build_engine(config, network_of(config), device), device)
    batches = [batch_of(config, step) for step in range(4)]
    batches = [batch.holding(batch.held.to(device)) for batch in batches]
    stage = BoostStage(config, BoostSteps(0, 1, 9), stepper, lambda step: N, {})
    third = draw_views([config.views] * 3, config.seed, 0, np.arange(N)).colour
    images = torch.cat([batches[3].images, batches[3].images[:1]])
    triple = replace(batches[3], images=images, colour=third)
    stepper.take(batches[0])
    with Asked() as asked, Read(asked):
        stepper.take(batches[1])
        stepper.take(batches[2], ["instance"])
        if "objective" not in settings.get("loss", {}):
            stage.take(triple, LOSSES, 1e-4)
    return asked.times


def on_rank(rank: int) -> list[Counter[str]]:
    return [steps(torch.device("cpu"), micro, settings) for micro, settings in CASES]


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("world", [1])
def test_a_step_asks_the_device_for_nothing(world: int) -> None:
    for found in run_ranks(world, on_rank):
        for (micro, settings), asked in zip(CASES, found, strict=True):
            assert not asked, (micro, settings)


@pytest.mark.gpu
def test_on_a_gpu_nothing_is_waited_for(gpu: torch.device) -> None:
    """Nor while the next batch is fetched; the first steps allocate, compile and choose algorithms."""
    warm, found = 2, []
    with process_group(RankEnvironment(), gpu):
        for micro, settings in CASES:
            config = config_of("test_vit" if micro else "test_resnet", micro, **settings)
            stepper = Stepper(config, build_engine(config, network_of(config), gpu), gpu)
            with closing(Feed(partial(batches, config), gpu)) as feed:
                feed.fetch_first()
                try:
                    for step in range(warm + 3):
                        set_sync_debug(gpu, step >= warm)
                        feed.begin()
                        stepper.take(feed.batch)
                        feed.fetch(StopRequest())
                except RuntimeError as error:
                    found.append((micro, settings, str(error)))
                finally:
                    set_sync_debug(gpu, False)
                feed.check()
    assert not found


def batches(config: Config, closing: Closing, allot: Allot | None = None) -> Iterator[PairBatch]:
    for step in itertools.count():
        batch = batch_of(config, step)
        yield (
            batch
            if allot is None
            else batch.holding(allot(batch.held.shape, batch.held.dtype).copy_(batch.held))
        )


def set_sync_debug(device: torch.device, on: bool) -> None:
    """Let what makes the host wait for a GPU be an error, or not."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error" if on else "default")


def test_what_asks_is_counted() -> None:
    x = torch.arange(3.0)
    with Asked() as asked, Read(asked):
        float(x[0]), bool(x.sum() > 0), x[x > 1], x.nonzero(), x.tolist(), x.numpy()
    assert asked.times == {"_local_scalar_dense": 2, "index": 1, "nonzero": 1, "tolist": 1, "numpy": 1}
