"""Batch norm over the global batch equals torch's on the concatenated batch, in one process."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from harness.ranks import run_ranks
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ccscale.errors import InputError
from ccscale.model.global_norm import global_batch_norm
from ccscale.model.norm import use_global_batch_norm

N, C = 8, 3  # global batch, channels
STEPS = 3
WORLDS = [1, pytest.param(2, marks=pytest.mark.dist), pytest.param(4, marks=pytest.mark.dist)]

# name -> (the norm that torch or timm has, shape behind the batch, is it trained)
CASES: dict[str, tuple[Any, tuple[int, ...], bool]] = {
    "2d": (lambda: nn.BatchNorm2d(C), (C, 4, 5), True),
    "2d without affine parameters": (lambda: nn.BatchNorm2d(C, affine=False), (C, 4, 5), True),
    "2d, plain mean of all batches": (lambda: nn.BatchNorm2d(C, momentum=None), (C, 2, 2), True),
    "2d, another momentum and eps": (lambda: nn.BatchNorm2d(C, momentum=0.7, eps=0.1), (C, 2, 2), True),
    "2d, evaluated": (lambda: nn.BatchNorm2d(C), (C, 4, 5), False),
    "2d without statistics": (lambda: nn.BatchNorm2d(C, track_running_stats=False), (C, 2, 2), True),
    "2d without statistics, evaluated": (
        lambda: nn.BatchNorm2d(C, track_running_stats=False),
        (C, 2, 2),
        False,
    ),
    "2d of one pixel": (lambda: nn.BatchNorm2d(C), (C, 1, 1), True),
    "1d": (lambda: nn.BatchNorm1d(C), (C,), True),
    "1d of sequences": (lambda: nn.BatchNorm1d(C), (C, 6), True),
    "with activation": (lambda: BatchNormAct2d(C, act_layer=nn.SiLU), (C, 4, 5), True),
    "with activation, evaluated": (lambda: BatchNormAct2d(C), (C, 4, 5), False),
    "channels last": (lambda: nn.BatchNorm2d(C), (C, 4, 5), True),
}


def build(name: str, seed: int = 0) -> nn.Module:
    make, _, training = CASES[name]
    norm = make().double().train(training)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            if tensor is not None:
                tensor.copy_(torch.rand(C, generator=generator, dtype=torch.float64) + 0.5)
    return norm


def batch(name: str, step: int) -> tuple[Tensor, Tensor]:
    """Return the global batch, whose parts are far apart from each other, and the weights of a loss."""
    shape = (N, *CASES[name][1])
    generator = torch.Generator().manual_seed(step)
    x, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = torch.arange(1, N + 1, dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
    return x * rows + rows**2, weights


def train(norm: nn.Module, name: str, rank: int, world: int, device: str = "cpu") -> dict[str, Any]:
    """Take a rank's part of each batch; the loss is a sum over rows, and over ranks."""
    norm.to(device)
    n = N // world
    mine = slice(rank * n, (rank + 1) * n)
    for step in range(STEPS):
        whole, weights = (tensor.to(device) for tensor in batch(name, step))
        x = whole[mine].clone()
        if name == "channels last":
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        norm.zero_grad()
        out = norm(x)
        (weights[mine] * out**2).sum().backward()
    gradients = {key: parameter.grad.cpu() for key, parameter in norm.named_parameters()}
    state = {key: value.cpu().clone() for key, value in norm.state_dict().items()}
    return {"out": out.detach().cpu(), "input": x.grad.cpu(), "gradients": gradients, "state": state}


def of_rank(rank: int, world: int) -> dict[str, dict[str, Any]]:
    found = {name: train(use_global_batch_norm(build(name)), name, rank, world) for name in CASES}
    with kernels_of_the_cpu():
        found["kernels"] = {
            name: train(use_global_batch_norm(build(name)), name, rank, world) for name in CASES
        }
    return found | {"float32": far_from_zero(rank, world), "bfloat16": half(rank, world)}


@contextmanager
def kernels_of_the_cpu() -> Any:
    """Have torch's kernels for a GPU as their definitions, so that the way over them is gone on a CPU.

    And statistics that are summed, as of many ranks.
    """

    def view(x: Tensor) -> list[int]:
        return [-1 if axis == 1 else 1 for axis in range(x.ndim)]

    def axes(x: Tensor) -> list[int]:
        return [axis for axis in range(x.ndim) if axis != 1]

    def statistics(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        return tuple(reversed(torch.var_mean(x, axes(x), correction=0)))

    def elements(x: Tensor, weight: Any, bias: Any, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
        out = (x - mean.view(view(x))) * invstd.view(view(x))
        return out if weight is None else out * weight.view(view(x)) + bias.view(view(x))

    def reduced(g: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Any, *wanted: bool) -> Any:
        sums = g.sum(axes(x)), (g * (x - mean.view(view(x)))).sum(axes(x))
        return *sums, sums[1] * invstd if wanted[1] else None, sums[0] if wanted[2] else None

    def back(
        g: Tensor,
        x: Tensor,
        mean: Tensor,
        invstd: Tensor,
        weight: Any,
        dy: Tensor,
        xmu: Tensor,
        counts: Tensor,
    ) -> Tensor:
        assert counts.dtype == torch.int32
        dy, xmu = dy / counts.sum(), xmu / counts.sum()
        scale = invstd if weight is None else invstd * weight
        normal = (x - mean.view(view(x))) * (xmu * invstd**2).view(view(x))
        return (g - dy.view(view(x)) - normal) * scale.view(view(x))

    with (
        patch("ccscale.model.global_norm._has_kernels", lambda x: True),
        patch("ccscale.model.global_norm.GATHERED", 1),
        patch("torch.batch_norm_update_stats", statistics),
        patch("torch.batch_norm_elemt", elements),
        patch("torch.batch_norm_backward_reduce", reduced),
        patch("torch.batch_norm_backward_elemt", back),
    ):
        yield


def far_from_zero(rank: int, world: int) -> dict[str, Any]:
    """In float32 on data with a mean of ten thousand deviations."""
    norm = use_global_batch_norm(nn.BatchNorm2d(C))
    n = N // world
    return {"out": norm(far()[rank * n : (rank + 1) * n]).detach(), "var": norm.running_var}


def far() -> Tensor:
    return 1e4 + torch.randn(N, C, 6, 6, generator=torch.Generator().manual_seed(9))


def half(rank: int, world: int) -> dict[str, Any]:
    """As under autocast: activations in bfloat16, parameters in float32."""
    norm = use_global_batch_norm(nn.BatchNorm2d(C))
    x = (batch("2d", rank)[0]).bfloat16().requires_grad_()
    out = norm(x)
    out.float().square().sum().backward()
    return {"dtypes": (out.dtype, x.grad.dtype, norm.weight.grad.dtype, norm.running_mean.dtype)}


@pytest.fixture(scope="module")
def found(request) -> tuple[int, list[dict[str, Any]]]:
    world = request.param
    if world == 1:  # as users run it: there may be no process group at all
        return world, [of_rank(0, 1)]
    return world, run_ranks(world, of_rank, world)


def close(found: Tensor, expected: Tensor) -> bool:
    return found.dtype == expected.dtype and torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("found", WORLDS, indirect=True)
def test_equals_one_process(found, name):
    check([ranks[name] for ranks in found[1]], name)
    check([ranks["kernels"][name] for ranks in found[1]], name)


def of_compiled(rank: int, world: int) -> dict[str, Any]:
    norm = use_global_batch_norm(build("channels last"))
    norm.compile(backend="aot_eager", fullgraph=True)
    return train(norm, "channels last", rank, world)


@pytest.mark.slow
@pytest.mark.dist
def test_compiled_it_is_one_graph_and_the_same():
    check(run_ranks(2, of_compiled, 2), "channels last")


def check(mine: list[dict[str, Any]], name: str) -> None:
    """Compare what ranks found with one process."""
    expected = train(build(name), name, 0, 1)
    assert close(torch.cat([rank["out"] for rank in mine]), expected["out"])
    # The gradient to the inputs of the sum of all ranks' losses: those of other ranks reach this one's inputs.
    assert close(torch.cat([rank["input"] for rank in mine]), expected["input"])
    assert expected["input"].abs().max() > 1e-3
    for key, gradient in expected["gradients"].items():
        assert close(sum(rank["gradients"][key] for rank in mine), gradient), key
    for rank in mine:
        assert rank["gradients"].keys() == expected["gradients"].keys()
        assert rank["state"].keys() == expected["state"].keys()
        for key, value in expected["state"].items():
            assert close(rank["state"][key], value), key


def test_statistics_of_one_rank_would_be_others():
    """The data can show the difference that the test above is about."""
    norm = build("2d")
    parts = [train(build("2d"), "2d", rank, 2)["out"] for rank in range(2)]
    assert not torch.allclose(torch.cat(parts), train(norm, "2d", 0, 1)["out"], atol=0.1)


@pytest.mark.parametrize("found", WORLDS, indirect=True)
def test_no_digits_are_lost_far_from_zero(found):
    _, of_ranks = found
    out = torch.cat([ranks["float32"]["out"] for ranks in of_ranks])
    expected = nn.BatchNorm2d(C).double()
    assert torch.allclose(out.double(), expected(far().double()), atol=5e-3)
    for ranks in of_ranks:
        assert torch.allclose(ranks["float32"]["var"].double(), expected.running_var, rtol=1e-3)


@pytest.mark.parametrize("found", WORLDS, indirect=True)
def test_dtypes_under_autocast(found):
    for ranks in found[1]:
        assert ranks["bfloat16"]["dtypes"] == (torch.bfloat16, torch.bfloat16, torch.float32, torch.float32)


def test_state_and_names_stay():
    norm = nn.Sequential(nn.Conv2d(3, C, 1), nn.BatchNorm2d(C), nn.Sequential(BatchNormAct2d(C)))
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    assert use_global_batch_norm(norm) is norm
    assert [type(norm[1]).__name__, type(norm[2][0]).__name__] == [
        "GlobalBatchNorm2d",
        "GlobalBatchNormAct2d",
    ]
    assert norm.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    use_global_batch_norm(norm)  # once more changes nothing
    assert type(norm[1]).__name__ == "GlobalBatchNorm2d"


def test_unknown_kind_is_refused():
    with pytest.raises(InputError, match="batch norms of type BatchNorm3d, whose statistics cannot"):
        use_global_batch_norm(nn.Sequential(nn.BatchNorm3d(C)))


def of_gpu(rank: int, world: int) -> dict[str, dict[str, Any]]:
    """Of ranks that share a GPU, and talk over gloo: NCCL gives each its own."""
    return {name: train(use_global_batch_norm(build(name)), name, rank, world, "cuda") for name in CASES}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_ranks_on_a_gpu_equal_one_process() -> None:
    found = run_ranks(2, of_gpu, 2)
    for name in CASES:
        check([ranks[name] for ranks in found], name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_on_a_gpu_it_is_torchs_and_the_host_never_waits(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    """One rank's own batch through what several use."""
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    rough = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    generator = torch.Generator().manual_seed(0)
    x, g = (3 + torch.randn(32, 24, 9, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    x, g = (tensor.to(dtype).contiguous(memory_format=layout) for tensor in (x, g))
    expected = there_and_back(torchs, x.double(), g.double(), torch.float64)
    x, g = x.cuda(), g.cuda()
    there_and_back(global_batch_norm, x, g, kind)  # the first time loads kernels
    found = there_and_back(global_batch_norm, x, g, kind, watched=True)
    assert [tensor.dtype for tensor in found] == [dtype] * 2 + [kind] * 4
    assert all(tensor.is_contiguous(memory_format=layout) for tensor in found[:2])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.double().cpu(), theirs, rtol=rough, atol=rough * theirs.abs().max().item())


def torchs(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, True, momentum, eps)


def there_and_back(
    norm: Any, x: Tensor, g: Tensor, kind: torch.dtype, watched: bool = False
) -> tuple[Tensor, ...]:
    """Return what comes out, gradients, running statistics; watched: and fail where the host waits for a GPU."""
    weight, bias, mean, var = (
        torch.full(x.shape[1:2], value, dtype=kind, device=x.device) for value in range(1, 5)
    )
    x = x.clone()
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    if watched:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        out = norm(x, weight, bias, mean, var, 0.1, 1e-5)
        out.backward(g)
    finally:
        if watched:
            torch.cuda.set_sync_debug_mode("default")
    return out.detach(), x.grad, weight.grad, bias.grad, mean, var


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_no_more_memory_is_taken_than_by_torch() -> None:
    """What is held at most, both ways."""
    x = torch.randn(64, 64, 56, 56, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    x.requires_grad_()
    weight, bias, mean, var = (torch.ones(64, device="cuda") for _ in range(4))
    most = []
    for norm in (global_batch_norm, torchs):
        for _ in range(2):  # the first time may load libraries
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            x.grad = None
            norm(x, weight, bias, mean, var, 0.1, 1e-5).backward(x.detach())
            peak = torch.cuda.max_memory_allocated() - before
        most.append(peak)
    assert most[0] <= 1.02 * most[1] + 1e6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_compiled_it_is_one_graph_and_the_same() -> None:
    """As of several ranks, on one."""
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        norm = use_global_batch_norm(nn.BatchNorm2d(16))
        network = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.ReLU())
        network.to("cuda", memory_format=torch.channels_last)
        if compiled:
            network.compile(fullgraph=True)
        x = torch.rand(8, 3, 12, 12, device="cuda").to(memory_format=torch.channels_last)
        with patch("ccscale.model.norm.dist", SimpleNamespace(world=lambda: 2)):
            with torch.autocast("cuda", torch.bfloat16):
                out = network(x)
            out.float().square().sum().backward()
        assert out.is_contiguous(memory_format=torch.channels_last)
        gradients = [parameter.grad for parameter in network.parameters()]
        found.append([out.detach(), *gradients, norm.running_mean, norm.running_var])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=2e-2, atol=2e-2 * theirs.abs().max().item())
