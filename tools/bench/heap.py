#!/usr/bin/env python
"""What it gives to keep freed memory while training on a CPU (ccscale/heap.py), and what it costs.

The same run in processes of its own, with and without, in turns: real steps, of which the quickest counts, for a
busy machine makes them longer only. Its seconds are told by the clock and of the processor, and of the latter how
many were the kernel's. Losses must be the same to the last bit.

    python tools/bench/heap.py SHARDS [--against CHECKOUT] [key=value ...]

With --against the other side is training as another checkout does it, an older commit say, whatever else it lacks.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from ccscale.config.file import parse_config
from ccscale.progress import Meter

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

ROOT = Path(__file__).resolve().parents[2]
# One run; argv: settings as JSON, whether freed memory is kept. Told: what each step took, and the peak of memory.
RUN = """
import contextlib, json, resource, sys, time
import ccscale.process_group as group
from ccscale.config.file import parse_config
from ccscale.train.step import Stepper
from ccscale.train.train import train_run
if sys.argv[2] != "kept":
    group.keep_freed = lambda wanted: contextlib.nullcontext()
take, steps = Stepper.take, []
def timed(*arguments):
    used, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    taken = take(*arguments)
    now = resource.getrusage(resource.RUSAGE_SELF)
    kernel = now.ru_stime - used.ru_stime
    steps.append([time.perf_counter() - begun, now.ru_utime - used.ru_utime + kernel, kernel])
    return taken
Stepper.take = timed
config = parse_config(json.loads(sys.argv[1]))
train_run(config)
lines = map(json.loads, open(config.run_folder / "metrics.jsonl"))
losses = [line["loss"] for line in lines if line["kind"] == "step"]
mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"steps": steps, "losses": losses, "peak_mib": mib}))
"""


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="a data set in shards")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the run")
    options.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout")
    options.add_argument("--turns", type=int, default=2, help="runs of each kind (default: %(default)s)")
    options.add_argument("--steps", type=int, default=4, help="steps of a run (default: %(default)s)")
    args = options.parse_args()

    def compare() -> int:
        tell(measure(args.shards, args.overrides, args.turns, args.steps, args.against), args.json, show)
        return 0

    return exit_code(compare)


def measure(
    shards: str, overrides: list[str], turns: int, steps: int, against: Path | None
) -> dict[str, Any]:
    """Train in turns; return each side's quickest step, and how they compare."""
    settings: dict[str, Any] = {
        "data": {"shards": str(Path(shards).resolve()), "workers": 0},
        "views": {"size": 96},
        "model": {"backbone": "tf_efficientnet_lite0", "clusters": 10},
        "train": {"global_batch": 256, "epochs": 1000, "max_steps": steps, "log_every": 1, "device": "cpu"},
    }
    sides = {"kept": ROOT, "not kept": against or ROOT}
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with Meter("measuring", 2 * turns, "runs", show=True) as meter, tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for side, checkout in sides.items() if turn % 2 else reversed(sides.items()):
                settings["run"] = f"{folder}/{side}-{turn}"
                config = parse_config(settings, overrides).model_dump(mode="json", exclude_defaults=True)
                found[side].append(run(config, side, checkout))
                meter.advance()
    quickest = {}
    for side, runs in found.items():
        wall, processor, kernel = zip(*(step for one in runs for step in one["steps"][1:]), strict=True)
        number = processor.index(min(processor))
        quickest[side] = {
            "wall_s": min(wall),
            "processor_s": processor[number],
            "kernel_s": kernel[number],
            "images_per_second": config["train"]["global_batch"] / min(wall),
            "peak_mib": max(one["peak_mib"] for one in runs),
        }
    kept, other = quickest["kept"], quickest["not kept"]
    return {
        "sides": quickest,
        "against": None if against is None else str(against),
        "ratio": {name: other[f"{name}_s"] / kept[f"{name}_s"] for name in ("wall", "processor")},
        "memory": kept["peak_mib"] / other["peak_mib"],
        "same_losses": len({json.dumps(one["losses"]) for runs in found.values() for one in runs}) == 1,
    }


def run(config: dict[str, Any], side: str, checkout: Path) -> dict[str, Any]:
    """Train in a process of its own, by the code of a checkout."""
    command = [sys.executable, "-c", RUN, json.dumps(config), side.replace(" ", "-")]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=2, env=environment, check=True, cwd=checkout
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    names = {
        "wall_s": "s",
        "processor_s": "of the processor",
        "kernel_s": "of them the kernel",
        "peak_mib": "MiB",
    }
    table = Table(
        "quickest step, freed memory", *(Column(title, justify="right") for title in names.values())
    )
    for side, figures in found["sides"].items():
        table.add_row(side, *(f"{figures[name]:,.2f}" for name in names))
    console = Console()
    console.print(table)
    wall, processor = found["ratio"]["wall"], found["ratio"]["processor"]
    losses = "the same" if found["same_losses"] else "DIFFER"
    console.print(
        f"{wall:.2f} times as fast, {processor:.2f} by the processor's seconds; "
        f"{100 * found['memory'] - 100:+.0f} % of memory; losses {losses}",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
