#!/usr/bin/env python
"""Time, memory and traffic of the two losses, forward and backward, beside the usual ways to compute them.

Instance loss: (a) autograd through an all-gather, the whole matrix on every rank; (b) all-gather with gradient,
this rank's rows alone, as OpenCLIP does it; (c) ccscale. Cluster loss: (a) the columns gathered with gradient, the
whole loss on every rank; (c) ccscale. Every rank has different data. `-`: would take more memory than --memory.
On a GPU (t) is ccscale's instance loss by tiles, not fused, and a column tells each time over that of the three
matrix products that it takes, at the rate measured for float16 products of 8,192 rows; nine for float32.

    python tools/bench/losses.py                      the table
    python tools/bench/losses.py --images 4096 --clusters --ranks 1 --json
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as torch_dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from ccscale.loss import cluster_loss, instance_loss
from ccscale.progress import Meter

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import counted_traffic, machine, peak_bytes
from tool import parser

WIDTH = 128
CLUSTER_IMAGES = 1024  # of the cluster loss's rows; its cost is in K

Loss = Callable[..., Tensor]


def _gather(out: Tensor, x: Tensor) -> None:
    call = getattr(torch_dist, "all_gather_single", None) or torch_dist.all_gather_into_tensor
    call(out, x)


def _reduce_scatter(out: Tensor, x: Tensor) -> None:
    call = getattr(torch_dist, "reduce_scatter_single", None) or torch_dist.reduce_scatter_tensor
    call(out, x)


class _GatherWithGradient(torch.autograd.Function):
    """All ranks' rows; the backward pass adds every rank's gradient to them up and hands each its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.new_empty(torch_dist.get_world_size() * len(x), *x.shape[1:])
        _gather(out, x.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        out = gradient.new_empty(len(gradient) // torch_dist.get_world_size(), *gradient.shape[1:])
        _reduce_scatter(out, gradient.contiguous())
        return out


def whole_matrix(z_a: Tensor, z_b: Tensor) -> Tensor:
    """(a) of the instance loss."""
    z = torch.cat([_GatherWithGradient.apply(z_a), _GatherWithGradient.apply(z_b)])
    similarity = z @ z.T / 0.5
    similarity.fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z), device=z.device).roll(len(z) // 2))


def local_rows(z_a: Tensor, z_b: Tensor) -> Tensor:
    """(b) of the instance loss."""
    n, rank = len(z_a), torch_dist.get_rank()
    z = torch.cat([z_a, z_b])
    everything = _GatherWithGradient.apply(z)  # rank by rank, both views of each
    similarity = z @ everything.T / 0.5
    similarity.diagonal(2 * n * rank).fill_(-torch.inf)
    return F.cross_entropy(similarity, 2 * n * rank + torch.arange(2 * n, device=z.device).roll(n))


def gathered_columns(p_a: Tensor, p_b: Tensor) -> Tensor:
    """(a) of the cluster loss."""
    p_a, p_b = _GatherWithGradient.apply(p_a), _GatherWithGradient.apply(p_b)
    columns = F.normalize(torch.cat([p_a.T, p_b.T]), dim=1)
    similarity = columns @ columns.T
    similarity.fill_diagonal_(-torch.inf)
    loss = F.cross_entropy(similarity, torch.arange(len(columns), device=p_a.device).roll(p_a.shape[1]))
    for p in (p_a, p_b):
        q = p.mean(dim=0)
        loss = loss + math.log(len(q)) + (q * q.log()).sum()
    return loss


# As ccscale's own step calls them: the schedule gives every rank as many images.
INSTANCE: dict[str, Loss] = {"a": whole_matrix, "b": local_rows, "c": partial(instance_loss, check=False)}
ON_A_GPU = INSTANCE | {"t": INSTANCE["c"]}
CLUSTER: dict[str, Loss] = {"a": gathered_columns, "c": partial(cluster_loss, check=False)}
# How many matrices of the problem's size each holds at once, on one rank.
MATRICES = {"a": 4, "b": 4}


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 4], help="numbers of processes (CPU)")
    options.add_argument(
        "--images",
        type=int,
        nargs="*",
        default=[1024, 4096, 16384, 32768],
        help="global batches, instance loss",
    )
    options.add_argument(
        "--clusters", type=int, nargs="*", default=[10, 200, 1000, 10000], help="K, cluster loss"
    )
    options.add_argument("--half", action="store_true", help="16-bit products, as under train.precision=bf16")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: one rank, one GPU")
    options.add_argument("--repeats", type=int, default=5, help="the median of so many is told")
    options.add_argument("--memory", type=float, default=10, metavar="GB", help="of all ranks together")
    args = options.parse_args()
    ranks = [1] if args.device == "cuda" else args.ranks
    rows: list[dict[str, Any]] = []
    with Meter("measuring", len(ranks), "numbers of ranks", show=True) as meter:
        for world in ranks:
            rows += run(world, args)
            meter.advance()
    head = {
        "machine": machine(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "half": args.half,
        "repeats": args.repeats,
    }
    print(json.dumps(head | {"rows": rows})) if args.json else show(head, rows)
    return 0


def run(world: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure on `world` ranks, each a process; return rank 0's rows."""
    with tempfile.TemporaryDirectory() as folder:
        how = (
            "spawn" if args.device == "cuda" else "fork"
        )  # a copy cannot use CUDA; else the imports are spared
        mp.start_processes(_rank, args=(world, folder, args), nprocs=world, start_method=how)
        rows: list[dict[str, Any]] = json.loads((Path(folder) / "rows.json").read_text())
        return rows


def _rank(rank: int, world: int, folder: str, args: argparse.Namespace) -> None:
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))
    store = torch_dist.FileStore(f"{folder}/store", world)
    backend = "nccl" if args.device == "cuda" else "gloo"
    torch_dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(rank)
    rows = []
    cuda = args.device == "cuda"
    rate = product_rate() if cuda else None
    for images in args.images:
        z = F.normalize(torch.randn(2, images // world, WIDTH, generator=generator), dim=2)
        z = z.to(args.device)
        matrix = (2 * images) ** 2 * 4
        needs = {"a": MATRICES["a"] * matrix * world, "b": MATRICES["b"] * matrix}
        products = (
            {}
            if rate is None
            else {"products": (3 if args.half else 9) * 2 * (2 * images) ** 2 * WIDTH / rate}
        )
        rows += [
            {"loss": "instance", "ranks": world, "N": images} | products | row
            for row in measure(ON_A_GPU if cuda else INSTANCE, z, needs, args)
        ]
    for clusters in args.clusters:
        logits = 2 * torch.randn(2, CLUSTER_IMAGES // world, clusters, generator=generator)
        p = logits.softmax(dim=2).to(args.device)
        needs = {"a": MATRICES["a"] * (2 * clusters) ** 2 * 4 * world}
        rows += [
            {"loss": "cluster", "ranks": world, "N": CLUSTER_IMAGES, "K": clusters} | row
            for row in measure(CLUSTER, p, needs, args)
        ]
    if rank == 0:
        (Path(folder) / "rows.json").write_text(json.dumps(rows))
    torch_dist.barrier()
    torch_dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the interpreter otherwise; see ccscale.cli.entry


def measure(
    losses: dict[str, Loss], inputs: Tensor, needs: dict[str, int], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure losses side by side: their repetitions take turns, so that noise meets all alike."""
    fits = {name: loss for name, loss in losses.items() if needs.get(name, 0) <= args.memory * 1e9}
    device = inputs.device
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    peak, traffic = {}, {}
    for name, loss in fits.items():  # also the warm-up
        with counted_traffic() as count:
            peak[name] = peak_bytes(partial(both_passes, name, loss, inputs, args.half), device)
        traffic[name] = sum(count.values())
    for _ in range(args.repeats):
        for name, loss in fits.items():
            torch_dist.barrier()
            start = time.perf_counter()
            both_passes(name, loss, inputs, args.half)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return [
        {"way": name}
        | (
            {"seconds": statistics.median(seconds[name]), "peak": peak[name], "bytes": traffic[name]}
            if name in fits
            else {}
        )
        for name in losses
    ]


def both_passes(way: str, loss: Loss, inputs: Tensor, half: bool) -> None:
    """Forward and backward."""
    a, b = (view.requires_grad_() for view in inputs.detach())
    with mock.patch("ccscale.loss.similarity._is_fused", return_value=False) if way == "t" else nullcontext():
        (partial(loss, half=True) if half and way in "ct" else loss)(a, b).backward()


def product_rate(repeats: int = 20) -> float:
    """Return how many operations a second the GPU reaches in (8192, 8192) by (8192, 8192) products of float16."""
    x = torch.randn(8192, 8192, device="cuda").half()
    out = x @ x
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(x, x, out=out)
    torch.cuda.synchronize()
    return repeats * 2 * 8192**3 / (time.perf_counter() - start)


def show(head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in head.items()), highlight=False)
    gpu = any("products" in row for row in rows)
    numbers: tuple[str, ...] = ("ranks", "N", "K", "ms", "of (a)", "of (b)", "peak MB", "MB sent")
    numbers += ("of products",) if gpu else ()
    table = Table(Column("loss", no_wrap=True), "way", *(Column(name, justify="right") for name in numbers))
    ways: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        ways.setdefault((row["loss"], row["ranks"], row["N"], row.get("K", "")), {})[row["way"]] = row
    for (loss, world, images, clusters), group in ways.items():
        for way, row in group.items():
            if "seconds" not in row:
                table.add_row(loss, way, str(world), f"{images:,}", f"{clusters}", *"-----")
                continue
            ratios = [
                f"{row['seconds'] / group[other]['seconds']:.2f}" if "seconds" in group.get(other, {}) else ""
                for other in "ab"
            ]
            table.add_row(
                *(
                    loss,
                    way,
                    str(world),
                    f"{images:,}",
                    f"{clusters}",
                    f"{1000 * row['seconds']:,.1f}",
                    *ratios,
                ),
                *(f"{row['peak'] / 1e6:,.1f}", f"{row['bytes'] / 1e6:,.2f}"),
                *([f"{row['seconds'] / row['products']:.1f}"] if "products" in row else []),
            )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
