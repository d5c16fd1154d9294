"""What the losses take on a GPU: fused and tiled, beside the products that they are made of; memory; large K."""

import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale.loss import cluster_loss, instance_loss, similarity
from ccscale.loss.tiles import GPU_TILE

WIDTH = 128


def measure(device: torch.device, dry: bool) -> None:
    """Print a line a figure: up to 65,536 images; dry: few on a CPU, in tiles."""
    cuda = device.type == "cuda"
    rate = _rate(device, 64 if dry else GPU_TILE)
    print(f"losses products of float16: {rate / 1e12:.0f} TFLOP/s")
    for images, width in ((64, 16),) if dry else ((1024, WIDTH), (8192, WIDTH), (65536, WIDTH)):
        z = F.normalize(torch.randn(2, images, width, device=device), dim=2)
        for half in (True, False):
            _print_instance(z, half, rate)
        if images <= 8192:
            print(
                f"losses N={images} d={width} gathered rows: {_milliseconds(partial(_whole, z), cuda):.2f} ms"
            )
    for ranks, images in ((8, 16),) if dry else ((64, 1024), (256, 256)):
        _print_among_ranks(device, ranks, images, 16 if dry else WIDTH)
    if cuda:
        _print_choices()
    for images, clusters in ((16, 8),) if dry else ((1024, 1000), (32768, 1000), (32768, 10000)):
        p = torch.randn(2, images, clusters, device=device).softmax(dim=2)
        for half in (False, True):
            took = _milliseconds(partial(_both, cluster_loss, p, half=half), cuda)
            print(f"losses cluster N={images} K={clusters} {_named(half)}: {took:.2f} ms", flush=True)
    for width, half in ((256, True), (512, True), (256, False)) if cuda else ():  # compilers take their time
        _print_instance(F.normalize(torch.randn(2, 8192, width, device=device), dim=2), half, rate)


def _print_instance(z: Tensor, half: bool, rate: float) -> None:
    cuda, (images, width) = z.is_cuda, z.shape[1:]
    if cuda:
        begun = time.perf_counter()
        works = similarity.works(z.device, width, half)
        print(
            f"losses d={width} {_named(half)}: works {works}, {time.perf_counter() - begun:.1f} s", flush=True
        )
    bound = 3 * 2 * (2 * images) ** 2 * width / rate * 1e3 * (1 if half else 3)
    took = _milliseconds(partial(_both, instance_loss, z, half=half), cuda)
    held = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        _both(instance_loss, z, half=half)
    peak = (torch.cuda.max_memory_allocated() - held) / 1e9 if cuda else float("nan")
    with mock.patch.object(similarity, "_is_fused", return_value=False):
        tiled = _milliseconds(partial(_both, instance_loss, z, half=half), cuda)
    bits = (2 * images - 1).bit_length()
    quicker = cuda and similarity.is_faster(z.device, width, half, bits)
    print(
        f"losses N={images} d={width} {_named(half)}: {took:.2f} ms, {took / bound:.2f} of its products "
        f"({bound:.2f} ms), {peak:.2f} GB, tiles {tiled:.2f} ms, fused {quicker}",
        flush=True,
    )


def _print_among_ranks(device: torch.device, ranks: int, images: int, width: int) -> None:
    """Time one rank's sums and pulls against the rows of all."""
    rows, others = (
        F.normalize(torch.randn(2 * images * many, width, device=device), dim=1) for many in (1, ranks - 1)
    )

    def take(half: bool) -> None:
        sums = similarity.row_sums(rows, 0.5, half=half)
        sums.add_own()
        sums.add(others)
        lse = sums.log()
        pulls = similarity.row_pulls(rows, lse, 0.5, half=half)
        pulls.add_own()
        pulls.add(others, lse.repeat(ranks - 1))
        pulls.total()

    for half in (True, False):
        took = _milliseconds(partial(take, half), device.type == "cuda")
        print(f"losses one of {ranks} ranks, {images} images each, {_named(half)}: {took:.2f} ms", flush=True)


def _print_choices() -> None:
    """Print the time of each choice of blocks that was tried."""
    from ccscale.loss import tuning

    for (launch, parts, width, m, c), times in tuning.tried.items():
        if m == c >= 16384:
            found = ", ".join(f"{'x'.join(map(str, config.values()))} {took:.2f}" for took, config in times)
            print(f"losses {launch} {m} x {c}, d={width}, {parts} parts: ms {found}")


def _both(loss: Callable[..., Tensor], inputs: Tensor, **options: bool) -> None:
    a, b = (view.detach().requires_grad_() for view in inputs)
    loss(a, b, check=False, **options).backward()


def _whole(z: Tensor) -> None:
    """Take the instance loss of this rank's rows against all by the whole matrix, as OpenCLIP does."""
    rows = z.flatten(0, 1).detach().requires_grad_()
    matrix = rows @ rows.T / 0.5
    matrix.fill_diagonal_(-torch.inf)
    F.cross_entropy(matrix, torch.arange(len(rows), device=z.device).roll(z.shape[1])).backward()


def _rate(device: torch.device, side: int) -> float:
    a = torch.randn(side, side, device=device).half()
    return 2 * side**3 / _milliseconds(partial(torch.mm, a, a), device.type == "cuda", 10) * 1e3


def _milliseconds(call: Callable[[], object], cuda: bool, times: int = 3) -> float:
    if cuda:
        from ccscale.loss.tuning import milliseconds

        return milliseconds(call, times)
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def _named(half: bool) -> str:
    return "16 bits" if half else "float32"
