"""A release of DeepSpeed that lacks a private name is told of in a sentence, when the engine is made."""

import importlib
import re
import sys
from functools import partial
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from harness.steps import batch_of, config_of, network_of
from packaging.requirements import Requirement
from torch import Tensor, nn

from ccscale.config import LOSSES
from ccscale.config.file import parse_config
from ccscale.engine import adapter
from ccscale.engine.adapter import PRIVATE, READ_IN, Engine
from ccscale.engine.build import build_engine
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering
from ccscale.train.step import Stepper

EACH = [(of, name) for of, names, _ in PRIVATE for name in names.split()]


class Without:
    """An object as another release may have it: without a name."""

    def __init__(self, whole: Any, name: str) -> None:
        self._whole, self._name = whole, name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._whole, name)


def make() -> Engine:
    model = {"backbone": "test_resnet", "clusters": 5}
    train = {"global_batch": 4, "zero": 1, "precision": "fp64"}
    settings = {"data": {"shards": "-"}, "model": model, "views": {"size": 32}, "train": train}
    config = parse_config(settings)
    return build_engine(config, ContrastiveClustering(config.model, 32), torch.device("cpu"))


def without_each(rank: int) -> dict[str, str]:
    """Make an engine without each of the names in turn, and return what is said."""
    import deepspeed

    whole, said = make()._engine, {}
    for of, name in EACH:
        with pytest.MonkeyPatch.context() as patch:
            if of.startswith("deepspeed."):
                patch.setitem(sys.modules, of, Without(importlib.import_module(of), name))
            else:
                broken: Any = Without(whole, name)
                if of != "engine":
                    broken = Without(whole, "")
                    inner = of.removeprefix("engine.")
                    setattr(broken, inner, Without(getattr(whole, inner), name))
                patch.setattr(deepspeed, "initialize", lambda _made=broken, **_: (_made,))
            act = partial(adapter.join_parts, Path(), Path()) if of == adapter.CONVERTER else make
            with pytest.raises(InputError) as told:
                act()
            said[f"{of}.{name}"] = str(told.value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "deepspeed.utils.groups", None)
        with pytest.raises(InputError) as told:
            make()
        said["deepspeed.utils.groups"] = str(told.value)
    return said


@pytest.mark.dist
def test_each_name_that_is_missing_is_told_with_the_release_that_has_it() -> None:
    (said,) = run_ranks(1, without_each)
    assert len(said) == len(EACH) + 1
    for name, sentence in said.items():
        assert sentence.startswith(f"DeepSpeed {version('deepspeed')} lacks {name}, which ccscale needs for ")
        assert sentence.endswith(f": run `pip install deepspeed=={READ_IN}`")


def weights_alone(rank: int, averages: bool, settings: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """Take three steps on one rank, the second by one loss; return the weights, and how many numbers are copied."""
    config = config_of("test_resnet", None, 0, precision="fp32", **settings)
    network = network_of(config)
    network.backbone.left_out = nn.Conv2d(3, 4, 3)  # it has no gradient
    stepper = Stepper(config, build_engine(config, network, torch.device("cpu")), torch.device("cpu"))
    assert not stepper.engine._engine.enable_backward_allreduce
    stepper.engine._engine.enable_backward_allreduce = averages
    for step, by in enumerate((LOSSES, ("instance",), LOSSES)):
        stepper.take(batch_of(config, step), by)
    with torch.profiler.profile() as profile:
        stepper.take(batch_of(config, 3))
    copies = sum(event.count for event in profile.key_averages() if event.key == "aten::copy_")
    return {name: value.clone() for name, value in network.state_dict().items()}, copies


@pytest.mark.dist
@pytest.mark.parametrize("settings", [{}, {"optimizer": "adamw", "clip": 0.1, "ema": 0.5}])
def test_one_rank_alone_averages_no_gradients_and_has_the_same_weights(settings: dict[str, Any]) -> None:
    ((alone, few),) = run_ranks(1, weights_alone, False, settings)
    ((averaged, many),) = run_ranks(1, weights_alone, True, settings)
    assert alone.keys() == averaged.keys()
    assert [name for name, value in alone.items() if not torch.equal(value, averaged[name])] == []
    assert few < many - 40  # as many gradients are not copied


def made_without_a_compiler(rank: int) -> None:
    from deepspeed.ops.op_builder.builder import OpBuilder

    with pytest.MonkeyPatch.context() as patch:
        # What is raised must be no Exception: these are taken for "this operator cannot be built".
        patch.setattr(OpBuilder, "has_function", lambda *_, **__: pytest.fail("a C compiler was run"))
        make()


@pytest.mark.dist
def test_a_start_runs_no_compiler() -> None:
    run_ranks(1, made_without_a_compiler)


def test_the_release_that_was_read_is_one_that_the_package_takes() -> None:
    (needed,) = (each for each in map(Requirement, requires("ccscale") or ()) if each.name == "deepspeed")
    assert needed.specifier.contains(READ_IN)
    assert f"{min(spec.version for spec in needed.specifier)}, the oldest" in (adapter.__doc__ or "")


def test_no_other_module_knows_a_private_name() -> None:
    package = Path(adapter.__file__).parents[1]
    # Names that are words of everyday, or Python's own, tell nothing of where they stand.
    private = {name for _, name in EACH if "_" in name.strip("_")} - {"skipped_steps"}
    for path in package.rglob("*.py"):
        if path != Path(adapter.__file__):
            text = path.read_text()
            found = re.findall(rf"\.({'|'.join(private)})\b|\b(?:import|from) (deepspeed\S*)", text)
            assert found == [], path
