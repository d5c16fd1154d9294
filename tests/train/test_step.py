"""A step in micro-batches is the step in one go: the same losses, gradients and running statistics."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import small_settings
from harness.descent import descend
from harness.ranks import run_ranks
from harness.steps import TEMI, N, batch_of, config_of, network_of
from safetensors.torch import load_file
from torch import Tensor
from torch._dynamo import lookup_backend

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.colour import apply_colour
from ccscale.engine.build import build_engine
from ccscale.model.backbone import has_one_stem
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

LR = 0.01
DROPPED = {"drop_path": 0.5, "dropout": 0.3}

Found = tuple[list[float], dict[str, Tensor]]


def steps(rank: int, world: int, config: Config) -> Found:
    """Take two steps of plain gradient descent; return the losses and all that changed."""
    network = network_of(config)
    engine = build_engine(config, network, torch.device("cpu"))
    base = engine.optimizer
    base.step = lambda: descend(base, LR)
    stepper = Stepper(config, engine, torch.device("cpu"))
    losses = [float(stepper.take(batch_of(config, step, rank, world))[0].loss) for step in range(2)]
    return losses, {name: value.detach().clone() for name, value in network.state_dict().items()}


def on_rank(rank: int, world: int, cases: list[Config]) -> list[Found]:
    return [steps(rank, world, config) for config in cases]


def check_same(found: Found, expected: Found) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-10)
    for name, value in expected[1].items():
        assert torch.allclose(found[1][name].double(), value.double(), rtol=1e-9, atol=1e-11), name


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_any_divisor_gives_the_same_step(world: int) -> None:
    """With layer norm, where a micro-batch changes nothing for an image; and with dropout, nor does it."""
    case = partial(config_of, "test_vit", model=DROPPED)
    cases = [case(micro) for micro in (None, 6, 4, 2)]
    cases += [case(4, zero=2), case(4, clip=0.1), case(None, clip=0.1)]
    for found in run_ranks(world, on_rank, world, cases):
        whole, *micro, zero_2, clipped, clipped_whole = found
        for of in (*micro, zero_2):
            check_same(of, whole)
        check_same(clipped, clipped_whole)
        assert clipped[0][1] != whole[0][1]  # or the two lines above would compare the same thing


@pytest.mark.dist
@pytest.mark.slow
def test_many_heads_take_the_same_step_in_micro_batches_and_on_any_number_of_ranks() -> None:
    heads = {"clusters": [5, 7], "heads": 2, "head_width": 6, "head_norm": "layer"}
    contrast = {"model": heads, "loss": {"entropy_weight": 0.5}}
    estimated = {"model": heads, "loss": {"prior": "estimated"}}
    kinds = contrast, TEMI, estimated
    cases = [config_of("test_vit", micro, **which) for which in kinds for micro in (None, 4)]
    (alone,) = run_ranks(1, on_rank, 1, cases)
    check_same(alone[1], alone[0])
    check_same(alone[3], alone[2])
    check_same(alone[5], alone[4])
    for of_rank in run_ranks(2, on_rank, 2, cases):
        for found, expected in zip(of_rank, alone, strict=True):
            check_same(found, expected)
    for config, (_, after) in zip(cases, alone, strict=True):
        parts = [f"cluster_head.{head}.layers.0.weight" for head in range(4)]
        parts += ["teacher.prior"] if config.loss.objective == "temi" else []
        parts += ["shares"] if config.loss.prior == "estimated" else []
        before = network_of(config).state_dict()
        assert all((after[name] - before[name]).abs().max() > 0 for name in parts)


def with_cluster_weights(rank: int, *weights: float | None) -> list[tuple[float, bool]]:
    return [by_labels(weight) for weight in weights]


def by_labels(weight: float | None) -> tuple[float, bool]:
    """Take a step by labels, or without any (None); return the cluster loss, and whether the teacher has moved."""
    config = config_of("test_vit", None, **TEMI)
    boost = config.stages.boost.model_copy(update={"cluster_weight": weight})
    config = config.model_copy(update={"stages": config.stages.model_copy(update={"boost": boost})})
    network = network_of(config)
    engine = build_engine(config, network, torch.device("cpu"))
    before = {name: value.clone() for name, value in network.teacher.heads.state_dict().items()}
    labels = None if weight is None else torch.arange(N) % 5
    losses, _ = Stepper(config, engine, torch.device("cpu")).take(batch_of(config, 0), labels=labels)
    after = network.teacher.heads.state_dict()
    return float(losses.cluster_loss), any((after[name] != before[name]).any() for name in before)


@pytest.mark.dist
@pytest.mark.slow
def test_the_cluster_loss_and_its_teacher_go_on_beside_labels() -> None:
    (found,) = run_ranks(1, with_cluster_weights, None, 0.0, 2.0)
    (plain, _), (alone, alone_moved), (both, both_moved) = found
    assert both == pytest.approx(alone + 2 * plain, rel=1e-10)
    assert (alone_moved, both_moved) == (False, True)


@pytest.mark.dist
@pytest.mark.slow
def test_dropout_and_stochastic_depth_draw_alike_on_any_number_of_ranks() -> None:
    """With layer norm and with batch norm; and as a backbone has it by default, once for all images."""
    cases = [
        config_of("test_vit", None, model=DROPPED),
        config_of("test_resnet", 4, model=DROPPED),
        config_of("test_vit_relpos", None),
    ]
    without = [config_of("test_vit", None), config_of("test_resnet", 4)]
    (alone,) = run_ranks(1, on_rank, 1, cases + without)
    for (dropped, _), (losses, _) in zip(alone[:2], alone[3:], strict=True):
        assert abs(dropped[0] / losses[0] - 1) > 1e-4  # or nothing was drawn
    for world in (2, 4):
        for of_rank in run_ranks(world, on_rank, world, cases):
            for found, expected in zip(of_rank, alone, strict=False):
                check_same(found, expected)


@pytest.mark.dist
@pytest.mark.slow
def test_dropout_draws_the_same_numbers_in_both_passes() -> None:
    """The second pass makes the very embeddings that the loss was taken of: its gradient is that of the loss."""
    ((found,),) = run_ranks(1, on_rank, 1, [config_of("test_vit", 4, model=DROPPED)])
    (expected,) = run_ranks(1, by_autograd)
    check_same(found, expected)


def by_autograd(rank: int) -> Found:
    """The same micro-batches at the same places in a single graph."""
    from ccscale.data.images.colour import apply_colour
    from ccscale.loss import cluster_loss, instance_loss

    config = config_of("test_vit", 4, model=DROPPED)
    network = network_of(config).double()
    losses = []
    for step in range(2):
        batch = batch_of(config, step)
        z, p = [[], []], [[], []]
        for number in range(3):
            places = torch.arange(number, N, 3)
            network.draws.place(config.seed, step, torch.cat([places, N + places]))
            images = batch.images[:, number::3].flatten(0, 1)
            colour = batch.colour.part(slice(number, None, 3)).flatten()
            outputs = network(apply_colour(images, colour, config.views, torch.float64))
            for view in (0, 1):
                z[view].append(outputs.embeddings.chunk(2)[view])
                p[view].append(outputs.assignments.chunk(2)[view])
        z_a, z_b, p_a, p_b = (torch.cat(parts) for parts in (*z, *p))
        loss = instance_loss(z_a, z_b, 0.5) + cluster_loss(p_a, p_b, 1.0)
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter -= LR * parameter.grad
        losses.append(loss.item())
    return losses, {name: value.detach() for name, value in network.state_dict().items()}


@pytest.mark.dist
@pytest.mark.slow
def test_batch_norm_sees_a_micro_batch_of_all_ranks_and_counts_it_once() -> None:
    """So the number of ranks changes nothing; and each image moves the running statistics once."""
    cases = [config_of("test_resnet", 4)]
    ((alone,),) = run_ranks(1, on_rank, 1, cases)
    for (found,) in run_ranks(2, on_rank, 2, cases):
        check_same(found, alone)
    counts = [value for name, value in alone[1].items() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(int(count) == 2 * 3 for count in counts)  # two steps of three micro-batches


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_views_in_bf16_are_what_autocast_would_make_of_them(backbone: str) -> None:
    """A GPU's step hands them over so: the same outputs and gradients, to the last bit."""
    config = config_of(backbone, None, precision="bf16")
    network, batch = network_of(config), batch_of(config, 0)
    assert has_one_stem(network.backbone)
    views = apply_colour(batch.images.flatten(0, 1), batch.colour.flatten(), config.views)
    found = []
    for inputs in (views, views.bfloat16()):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(inputs.contiguous(memory_format=torch.channels_last))
        (outputs.embeddings.square().mean() + outputs.assignments.square().mean()).backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        found.append([*outputs, *gradients])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_a_backbone_that_scales_its_images_is_given_them_in_float32() -> None:
    assert not has_one_stem(timm.create_model("crossvit_tiny_240"))


@pytest.mark.dist
@pytest.mark.slow
def test_float32_under_zero_0() -> None:
    """DeepSpeed's other way to accumulate: rounding, no more."""
    cases = [config_of("test_vit", micro, zero=0, precision="fp32") for micro in (None, 4)]
    for whole, micro in run_ranks(2, on_rank_zero_0, 2, cases):
        assert micro[0] == pytest.approx(whole[0], rel=1e-5)


def on_rank_zero_0(rank: int, world: int, cases: list[Config]) -> list[Found]:
    found = []
    for config in cases:
        network = network_of(config)
        engine = build_engine(config, network, torch.device("cpu"))
        stepper = Stepper(config, engine, torch.device("cpu"))
        found.append(
            ([float(stepper.take(batch_of(config, step, rank, world))[0].loss) for step in range(3)], {})
        )
    return found


@pytest.mark.slow
def test_a_compiled_backbone_makes_the_same_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train.compile, through the loop: the losses of the eager run up to rounding, and the same files.

    The graphs are traced, with those of their gradients, and run as they are: what PyTorch's C++ compiler makes of
    them is its own matter, and takes a minute.
    """
    graphs = []

    def traced(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=traced))
    losses = {}
    for compiled in (False, True):
        run = tmp_path / f"{compiled}"
        changes = {"train__max_steps": 4, "train__compile": compiled}
        assert train_run(parse_config(small_settings(shards, run, **changes))).finished
        records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        losses[compiled] = [record["loss"] for record in records if record["kind"] == "step"]
        weights = load_file(run / "checkpoints/step-00000004/model.safetensors")
        losses[f"names {compiled}"] = sorted(weights)
    assert losses["names True"] == losses["names False"]
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
    assert graphs
