#!/usr/bin/env python
"""How fast views are made on one core: ccscale beside the usual pipelines and beside bare decoding.

    python tools/bench/loader.py                      the table, in about two minutes
    python tools/bench/loader.py --sizes 32 --images 128 --repeats 15 --json

The pipelines (see pipelines.py) take turns, a batch each, on the same files, in one process and on one thread, so
that what else the machine does meets all alike. Counted is the process's CPU time: the files lie in the page
cache, nothing is waited for. Times are medians over the batches, ratios medians of the batches' own ratios. The
memory is that of a process that streams the same shards over HTTP (see worker_memory.py). Needs the extra `bench`
(OpenCV) and a checkout. Where there is a GPU, colour and blur are timed on it too.
"""

import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

from ccscale.config import Model
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import Meter

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import commit, processor
from memory import MIB
from tool import parser, tell

try:
    from pipelines import LANES, NAMES, Pipelines, make_files, one_thread
    from worker_memory import worker_memory
except ModuleNotFoundError as error:
    if error.name != "cv2":
        raise
    sys.exit("OpenCV, which the paper's blur needs, is not installed: pip install 'ccscale[bench]'")

PACKAGES = ("torch", "torchvision", "pillow", "opencv-python-headless", "webdataset", "numpy", "ccscale")
# (faster pipeline, slower or floor, the sizes in question, least ratio of the first's speed to the second's)
BARS: tuple[tuple[str, str, tuple[int, ...] | None, float], ...] = (
    ("c", "e", None, 0.85),
    ("c", "a", (224,), 2.2),
    ("d", "a", (224,), 1.2),
)
GPU_SHARE = 0.05  # of a training step, at most


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[224, 96, 32], help="sides of the views")
    options.add_argument("--images", type=int, default=256, help="files; rounded down to whole batches")
    options.add_argument("--batch", type=int, default=32, help="images in a batch")
    options.add_argument("--repeats", type=int, default=5, help="times that each file is used")
    options.add_argument(
        "--blocks",
        type=float,
        nargs="*",
        default=[1, 8],
        metavar="MIB",
        help="data.block_bytes of memory's rows",
    )
    args = options.parse_args(arguments)
    if min(*args.sizes, args.repeats) < 1 or args.batch % LANES or not 0 < args.batch <= args.images:
        options.error(
            f"sizes and repeats are at least 1, a batch is a multiple of {LANES} and at most all images"
        )
    one_thread()
    images = args.images // args.batch * args.batch
    result: dict[str, Any] = {"machine": machine(), "images": images, "batch": args.batch}
    result |= {"repeats": args.repeats, "sizes": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["file_bytes"] = make_files(folder, images)
        turns = args.repeats * images // args.batch
        with Meter("measuring", len(args.sizes) * turns, "batches", show=True) as meter:
            for size in args.sizes:
                pipelines = Pipelines(folder, size, args.batch)
                seconds = take_turns(pipelines, turns, meter.advance)
                result["sizes"][size] = figures(size, seconds, args.batch) | {
                    "gpu": on_gpu(pipelines, args.repeats) if torch.cuda.is_available() else None,
                }
        with Meter("measuring memory", len(args.sizes) * len(args.blocks), "processes", show=True) as meter:
            for size in args.sizes:
                memory = result["sizes"][size]["memory"] = []
                for block in args.blocks:
                    memory.append(worker_memory(folder / "shards", size, int(block * MIB), epochs=2))
                    meter.advance()
    tell(result, args.json, show)
    return 0


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": commit(),
    }


def take_turns(pipelines: Pipelines, turns: int, tick: Callable[[], None]) -> dict[str, list[float]]:
    """Time every pipeline's batches, in turns; return the CPU seconds of each, but for the first."""
    seconds: dict[str, list[float]] = {letter: [] for letter in NAMES}
    for number, turn in enumerate(itertools.islice(pipelines.turns(), turns + 1)):
        letters = [*turn] if number % 2 else [*reversed(turn)]  # what comes before fills the caches
        for letter in letters:
            start = time.process_time()
            turn[letter]()
            if number > 0:
                seconds[letter].append(time.process_time() - start)
        if number > 0:
            tick()
    return seconds


def figures(size: int, seconds: dict[str, list[float]], batch: int) -> dict[str, Any]:
    """Return times, rates and the bars of one size."""
    medians = {letter: statistics.median(values) for letter, values in seconds.items()}
    bars = [
        {
            "faster": fast,
            "than": slow,
            "ratio": statistics.median(b / a for a, b in zip(seconds[fast], seconds[slow], strict=True)),
            "bar": bar if sizes is None or size in sizes else None,
        }
        for fast, slow, sizes, bar in BARS
    ]
    return {
        "milliseconds": {letter: 1000 * value / batch for letter, value in medians.items()},
        "images_per_second": {letter: batch / value for letter, value in medians.items()},
        "ratios": bars,
    }


def on_gpu(pipelines: Pipelines, repeats: int) -> dict[str, float]:
    """Time colour and blur of a batch on the GPU, and the training step that follows: ResNet-34 in bfloat16."""
    batch = pipelines.first_batch()
    count, size = batch.images.shape[1], pipelines.settings.size
    torch.backends.cudnn.benchmark = True
    network = ContrastiveClustering(Model(backbone="resnet34", clusters=10), size).cuda()
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    views = pipelines.coloured(batch, "cuda").contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            outputs = network(views)
        z_a, z_b = outputs.embeddings.float().chunk(2)
        p_a, p_b = outputs.assignments.float().chunk(2)
        loss = instance_loss(z_a, z_b) + cluster_loss(p_a, p_b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def seconds(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(3 + repeats):
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[3:])

    # The transfer of the bytes is counted in, as (d) counts it.
    colour, training = seconds(lambda: pipelines.coloured(batch, "cuda")), seconds(step)
    return {
        "images_per_second": count / colour,
        "step_milliseconds": 1000 * training,
        "share": colour / training,
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    console, sizes, facts = Console(), result["sizes"].values(), result["machine"]
    console.print(
        f"Two views of each of {result['images']} JPEGs of 500x375 and {result['file_bytes'] / 1000:.0f} KB; "
        f"CPU time on one core, medians over {result['repeats']} x {result['images'] // result['batch']} batches. "
        f"{facts['processor']}, {facts['cores']} cores; Python {facts['python']}, "
        + ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
        + f"; commit {facts['commit']}",
        highlight=False,
    )
    head = (Column(f"{size} px", justify="right") for size in result["sizes"])
    table = Table("ms an image (images a second)", *head)
    for letter, name in NAMES.items():
        table.add_row(
            f"({letter}) {name}",
            *(
                f"{row['milliseconds'][letter]:.2f} ({row['images_per_second'][letter]:,.0f})"
                for row in sizes
            ),
        )
    table.add_section()
    for number, (fast, slow, _, _) in enumerate(BARS):
        table.add_row(
            f"speed of ({fast}) over that of ({slow})", *(_ratio(row["ratios"][number]) for row in sizes)
        )
    table.add_section()
    for rows in zip(*(row["memory"] for row in sizes), strict=True):
        table.add_row(
            f"MiB of a worker, blocks of {rows[0]['block']:g}",
            *(
                f"{row['grown']:.0f} ({_met(row['grown'] <= row['bound'], round(row['bound']))})"
                for row in rows
            ),
        )
    table.add_section()
    if facts["gpu"] is None:
        table.add_row("(d) on a GPU: not measured, there is none", *("" for _ in sizes))
    else:
        table.add_row(
            "(d) on the GPU, images a second", *(f"{row['gpu']['images_per_second']:,.0f}" for row in sizes)
        )
        table.add_row(
            "its share of a ResNet-34 step",
            *(f"{row['gpu']['share']:.1%} ({_met(row['gpu']['share'] <= GPU_SHARE, '5%')})" for row in sizes),
        )
    console.print(table)


def _ratio(ratio: dict[str, Any]) -> str:
    if ratio["bar"] is None:
        return f"{ratio['ratio']:.2f}"
    return f"{ratio['ratio']:.2f} ({_met(ratio['ratio'] >= ratio['bar'], ratio['bar'])})"


def _met(is_met: bool, bar: object) -> str:
    return f"{bar}: {'met' if is_met else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
