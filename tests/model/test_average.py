"""The average of weights is the formula's, step by step; what was skipped leaves no trace in it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ccscale.model.average import Average, served


def module_of(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), weight_norm(nn.Linear(4, 4)))
    layers.append(nn.Linear(4, 4))
    layers[-1].weight = layers[3].parametrizations.weight.original1  # one tensor in two places
    return layers.to(dtype)


def move(module: nn.Module, seed: int) -> None:
    """Change all weights, and batch norm's statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.add_(torch.randint(1, 5, value.shape, generator=generator).to(value.dtype))


def test_it_begins_as_the_module_has_no_parameters_and_is_its_own() -> None:
    module = module_of()
    average = Average(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert not list(average.parameters())
    state = average.state_dict()
    assert set(state) == {f"copy.{name}" for name in before}
    move(module, 1)
    assert all(torch.equal(state[f"copy.{name}"], value) for name, value in before.items())
    x = torch.randn(2, 3, 3, 3)
    unmoved = copy.deepcopy(module).eval()
    unmoved.load_state_dict(before)
    assert torch.equal(average(x), unmoved(x))
    assert not average(x).requires_grad
    assert not any(child.training for child in average.train().modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_formula_s_at_every_step(dtype: torch.dtype) -> None:
    module = module_of(dtype)
    average = Average(module)
    expected = {name: value.double() for name, value in module.state_dict().items()}
    for step, decay in enumerate([0.0, 0.9, 0.5, 0.99]):
        move(module, step)
        average.update(module, decay)
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value.double()
            else:
                expected[name] = value.double().clone()
        for name, value in average.copy.state_dict().items():
            assert value.dtype == module.state_dict()[name].dtype
            assert torch.allclose(
                value.double(), expected[name], rtol=1e-12 if value.dtype == dtype == torch.float64 else 1e-6
            )


def test_a_skipped_step_leaves_no_trace() -> None:
    module = module_of()
    average, other = Average(module), Average(module)
    for step, skipped in enumerate([0.0, 1.0, 0.0]):
        move(module, step)
        average.update(module, 0.9, torch.tensor(skipped))
        if not skipped:
            other.update(module, 0.9)
    assert same(average, other)


def test_it_goes_on_from_its_state_dict() -> None:
    module = module_of()
    average = Average(module)
    move(module, 1)
    average.update(module, 0.9)
    resumed = Average(module)
    resumed.load_state_dict(average.state_dict())
    move(module, 2)
    average.update(module, 0.9)
    resumed.update(module, 0.9)
    assert same(average, resumed)


def same(one: nn.Module, other: nn.Module) -> bool:
    values: dict[str, Tensor] = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())


def test_what_is_frozen_has_no_average() -> None:
    module = module_of()
    module[:2].requires_grad_(False)  # a norm's statistics are taken for frozen with it
    average = Average(module)
    assert average.copy[0].weight is module[0].weight
    assert set(average.state_dict()) == {
        f"copy.{name}" for name in module.state_dict() if name[0] not in "01"
    }
    move(module[3], 1)
    average.update(module, 0.9)
    x = torch.randn(2, 3, 3, 3)
    assert torch.equal(average(x), average.to(memory_format=torch.channels_last)(x))
    assert average.copy[0].weight is module[0].weight


def test_a_module_computes_with_its_averages_and_goes_back() -> None:
    module = module_of().eval()
    average = Average(module)
    move(module, 1)
    plain = {name: value.clone() for name, value in module.state_dict().items()}
    average.update(module, 0.9)
    x = torch.randn(2, 3, 3, 3)
    of_average, of_plain = average(x), module(x)
    parameters = [id(parameter) for parameter in module.parameters()]
    average.swap(module)
    assert torch.equal(module(x), of_average)
    average.swap(module)
    assert torch.equal(module(x), of_plain)
    assert all(torch.equal(value, plain[name]) for name, value in module.state_dict().items())
    assert [id(parameter) for parameter in module.parameters()] == parameters


def test_averages_serve() -> None:
    module = module_of()
    module.add_module("average", Average(nn.Sequential(*module)))
    move(module, 1)
    weights = module.state_dict()
    serving = served(weights)
    assert set(serving) == {name for name in weights if not name.startswith("average.")}
    assert all(torch.equal(value, weights[f"average.copy.{name}"]) for name, value in serving.items())
    assert served(serving).keys() == serving.keys()
