"""Adam and AdamW are torch's own, step by step, with rates, decay and layers as timm has them."""

from typing import Any

import pytest
import timm
import torch
from harness.ranks import run_ranks
from harness.steps import batch_of, config_of, network_of
from timm.optim import param_groups_layer_decay
from torch import Tensor

from ccscale.config import Config
from ccscale.data.images.colour import apply_colour
from ccscale.engine.build import build_engine
from ccscale.engine.parameter_groups import parameter_groups
from ccscale.errors import InputError
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import ContrastiveClustering
from ccscale.train.step import Stepper

RATES = (0.001, 0.01, 0.003)
DECAYED = {"optimizer": "adamw", "weight_decay": 0.3, "betas": (0.8, 0.95), "ema": 0.15}
LAYERS = {"backbone_lr": 0.5, "layer_decay": 0.6}
CASES: dict[str, dict[str, Any]] = {  # by name: the config's section train
    "adam": {"weight_decay": 0.3},
    "adamw": DECAYED,
    "adamw by layers": DECAYED | LAYERS,
}
Weights = dict[str, Tensor]


def config(name: str, zero: int) -> Config:
    return config_of("test_vit", None, zero, precision="fp64" if zero else "fp32", **CASES[name])


def torch_groups(config: Config, network: torch.nn.Module) -> list[dict[str, Any]]:
    """Group the parameters by timm's own rule for a model with a classifier, and the heads with none of it."""
    train = config.train
    backbone = network.backbone
    whole = timm.create_model("test_vit", num_classes=3, img_size=config.views.size)
    decays = train.weight_decay
    groups = []
    of_timm = param_groups_layer_decay(
        whole, decays, whole.no_weight_decay(), layer_decay=train.layer_decay or 1.0
    )
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    for group in of_timm:
        for name in (names[id(parameter)] for parameter in group["params"]):
            if not name.startswith("head."):
                decay = decays if train.optimizer == "adam" else group["weight_decay"]
                scale = group["lr_scale"] * train.backbone_lr
                groups.append(
                    {"params": [backbone.get_parameter(name)], "weight_decay": decay, "scale": scale}
                )
    for head in (network.instance_head, network.cluster_head):
        for parameter in head.parameters():
            decay = decays if train.optimizer == "adam" or parameter.ndim > 1 else 0.0
            groups.append({"params": [parameter], "weight_decay": decay, "scale": 1.0})
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    return groups


def torch_optimizer(config: Config, network: torch.nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.train.optimizer]
    return kind(torch_groups(config, network), lr=1.0, betas=config.train.betas, foreach=False)


def step_at(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.step()


def torch_steps(config: Config) -> list[Weights]:
    """Return the weights after each step of plain torch: one process, float64, autograd."""
    network = network_of(config).double()
    optimizer, found = torch_optimizer(config, network), []
    for step, rate in enumerate(RATES):
        batch = batch_of(config, step)
        images, colour = batch.images.flatten(0, 1), batch.colour.flatten()
        outputs = network(apply_colour(images, colour, config.views, torch.float64))
        optimizer.zero_grad()
        (instance_loss(*outputs.embeddings.chunk(2)) + cluster_loss(*outputs.assignments.chunk(2))).backward()
        step_at(optimizer, rate)
        found.append(weights_of(network))
    return found


def weights_of(network: torch.nn.Module) -> Weights:
    """Return all weights but the keys' biases: these have no gradient but rounding's, of which Adam makes steps."""
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    for name, value in weights.items():
        if name.endswith("qkv.bias"):
            value.unflatten(0, (3, -1))[1] = 0
    return weights


def check_average(config: Config, network: ContrastiveClustering, average: Weights, step: int) -> None:
    """Go on with an average by its formula, and compare the network's own with it."""
    decay = config.train.ema
    if decay is not None:
        decay = min(decay, (1 + step) / (10 + step))
        own = dict(network.average.copy.named_buffers())
        for name, value in weights_of(network).items():
            average[name] = decay * average[name] + (1 - decay) * value
            if not name.endswith("qkv.bias"):
                assert torch.allclose(own[name], average[name], rtol=1e-6, atol=1e-7), name


def engine_steps(rank: int, world: int, zeros: tuple[int, ...]) -> dict[tuple[str, int], Any]:
    """Return the weights after each step; under ZeRO 0 also those of torch's optimizer from the same gradients."""
    found: dict[tuple[str, int], Any] = {}
    for name in CASES:
        for zero in zeros:
            of_run = config(name, zero)
            network, other = network_of(of_run), network_of(of_run)
            stepper = Stepper(of_run, build_engine(of_run, network, torch.device("cpu")), torch.device("cpu"))
            optimizer = torch_optimizer(of_run, other)
            gradients: list[Weights] = []

            def note(*_: Any, network: Any = network, gradients: list[Weights] = gradients) -> None:
                gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})

            if zero == 0:
                stepper.engine.optimizer.register_step_pre_hook(note)
            weights, others = [], []
            average = weights_of(network)
            for step, rate in enumerate(RATES):
                stepper.take(batch_of(of_run, step, rank, world), rate=rate)
                check_average(of_run, network, average, step)
                weights.append(weights_of(network))
                if zero == 0:
                    for key, parameter in other.named_parameters():
                        parameter.grad = gradients[-1][key]
                    step_at(optimizer, rate)
                    others.append(weights_of(other))
            found[name, zero] = weights, others
    return found


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(("world", "zeros"), [(1, (0, 1)), (2, (0, 1, 2))])
def test_the_steps_are_those_of_torch(world: int, zeros: tuple[int, ...]) -> None:
    expected = {name: torch_steps(config(name, 1)) for name in CASES}
    for of_rank in run_ranks(world, engine_steps, world, zeros):
        for (name, zero), (weights, others) in of_rank.items():
            for these, those in zip(weights, others if zero == 0 else expected[name], strict=True):
                for key, value in those.items():
                    atol = 5e-7 if zero == 0 else 1e-9
                    worst = float((these[key] - value).abs().max())
                    assert worst <= atol, (name, zero, key, worst)


def test_the_paper_s_adam_has_one_group() -> None:
    of_run = config("adam", 0)
    (group,) = parameter_groups(of_run, network_of(of_run))
    assert (group["scale"], group["weight_decay"]) == (1.0, 0.3)


def test_a_backbone_whose_layers_are_not_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    of_run = config("adamw by layers", 0)
    network = network_of(of_run)
    monkeypatch.delattr(type(network.backbone), "group_matcher")
    with pytest.raises(InputError) as caught:
        parameter_groups(of_run, network)
    assert str(caught.value) == (
        "timm does not group the layers of 'test_vit': leave train.layer_decay out, or choose another "
        "backbone (model.backbone)"
    )
