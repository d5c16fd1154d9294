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

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table

from ccscale.config.file import parse_config
from ccscale.progress import Meter

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

ROOT = Path(__file__).resolve().parents[2]
# One run, by the command line, which older commits have too; argv: its config, "kept" or not, and the file for what
# the process had used after each step.
RUN = """
import contextlib, json, resource, sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook
config, side, file = sys.argv[1:]
def note(*_):
    used = resource.getrusage(resource.RUSAGE_SELF)
    noted = time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_stime, used.ru_maxrss / 1024
    print(json.dumps(noted), file=open(file, "a"))
register_optimizer_step_post_hook(note)
if side != "kept":
    import ccscale.heap
    import ccscale.process_group as group
    group.keep_freed = lambda wanted: contextlib.nullcontext()
from ccscale.cli import entry
sys.argv = ["ccscale", "train", config]
entry()
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
    settings = parse_config(settings, overrides).model_dump(mode="json", exclude_unset=True)
    sides = {"kept": ROOT, "not kept" if against is None else "the other": against or ROOT}
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with Meter("measuring", 2 * turns, "runs", show=True) as meter, tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for side, checkout in sides.items() if turn % 2 else reversed(sides.items()):
                found[side].append(run(settings, Path(folder, f"{side}-{turn}"), side, checkout, against))
                meter.advance()
    quickest = {}
    for side, runs in found.items():
        wall, processor, kernel = (np.concatenate([one["steps"][part] for one in runs]) for part in range(3))
        quickest[side] = {
            "wall_s": float(wall.min()),
            "processor_s": float(processor.min()),
            "kernel_s": float(kernel[processor.argmin()]),
            "images_per_second": settings["train"]["global_batch"] / float(wall.min()),
            "peak_mib": max(one["peak_mib"] for one in runs),
        }
    kept, other = quickest.values()
    return {
        "sides": quickest,
        "threads": torch.get_num_threads(),
        "ratio": {name: other[f"{name}_s"] / kept[f"{name}_s"] for name in ("wall", "processor")},
        "memory": kept["peak_mib"] / other["peak_mib"],
        "same_losses": len({json.dumps(one["losses"]) for runs in found.values() for one in runs}) == 1,
    }


def run(
    settings: dict[str, Any], folder: Path, side: str, checkout: Path, against: Path | None
) -> dict[str, Any]:
    """Train in a process of its own, by the code of a checkout; return what each step took after the first."""
    folder.mkdir()
    config, noted = folder / "config.json", folder / "noted"
    config.write_text(json.dumps(settings | {"run": str(folder / "run")}))
    as_it_is = side == "kept" or against is not None
    command = [sys.executable, "-c", RUN, str(config), "kept" if as_it_is else "not", str(noted)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run(command, stdout=2, env=environment, check=True, cwd=checkout)
    used = np.array([json.loads(line) for line in noted.read_text().splitlines()])
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return {
        "steps": np.diff(used[:, :3], axis=0).T,
        "peak_mib": float(used[-1, 3]),
        "losses": [line["loss"] for line in lines if line["kind"] == "step"],
    }


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
