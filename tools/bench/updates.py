#!/usr/bin/env python
"""What an update of living clusters takes, by how many images there were before: it should not matter.

    python tools/bench/updates.py FOLDER [--rows 10000 100000 1000000] [--new 1000] [--repeats 3]

A run is trained for a moment on random numbers in 16 heaps. It founds living clusters on a store of each size, and
takes in stores of new images, one after the other; their features are there already. FOLDER is kept.
"""

import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from ccscale.clusters.init import found_clusters
from ccscale.clusters.update import Asked, update_run
from ccscale.config.file import parse_config
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import machine
from store import make
from tool import exit_code, parser, tell

CLASSES, WIDTH, SPREAD, SEED = 16, 64, 0.7, 0


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("folder", metavar="FOLDER", type=Path, help="is made, or gone on with")
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--new", type=int, default=1_000)
    options.add_argument("--repeats", type=int, default=3)
    args = options.parse_args()

    def compare() -> int:
        days = [
            heaps(args.folder / f"day-{number}", args.new + number, f"day-{number}")
            for number in range(args.repeats)
        ]
        trained(args.folder, min(args.rows))
        found = [measure(args.folder, rows, days) for rows in args.rows]
        tell({"machine": machine(), "new": args.new, "updates": found}, args.json, show)
        return 0

    return exit_code(compare)


def heaps(folder: Path, rows: int, name: str = "") -> Path:
    """Make a store of random numbers in heaps, if it is not there."""
    if not folder.exists():
        make(folder, rows, WIDTH, CLASSES, SPREAD, SEED, name=name)
    return folder


def trained(folder: Path, rows: int) -> None:
    """Train the run, if it is not there."""
    if (folder / "run").exists():
        return
    store = heaps(folder / f"store-{rows}", rows)
    find_neighbours(open_features(store), 5, device="cpu", show=False)
    settings = {
        "run": str(folder / "run"),
        "data": {"features": str(store)},
        "pairs": {"of": "neighbours", "neighbours": 5},
        "model": {"clusters": CLASSES, "head_width": 64, "centres": ["features"]},
        "train": {"global_batch": 256, "max_steps": 2, "device": "cpu"},
    }
    train_run(parse_config(settings))
    evaluate_run(folder / "run", probe=False, device="cpu")


def measure(folder: Path, rows: int, days: list[Path]) -> dict[str, Any]:
    """Return what updates take after so many images."""
    run, store = folder / f"run-{rows}", heaps(folder / f"store-{rows}", rows)
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(folder / "run", run)
    config = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(
        "\n".join(
            f"  features: {store.absolute()}" if line.startswith("  features:") else line
            for line in config.split("\n")
        ),
        encoding="utf-8",
    )
    found_clusters(run, device="cpu")
    seconds, cpu = [], []
    for new in days:
        begun, used = time.monotonic(), time.process_time()
        update_run(run, Asked(features=str(new)), device="cpu")
        seconds.append(time.monotonic() - begun)
        cpu.append(time.process_time() - used)
    return {"rows": rows, "seconds": seconds, "cpu_seconds": cpu}


def show(found: dict[str, Any]) -> None:
    """Print medians, and how much the slowest size takes beside the fastest."""
    table = Table("rows before", "seconds", "of a processor")
    for one in found["updates"]:
        table.add_row(
            f"{one['rows']:,}", f"{median(one['seconds']):.2f}", f"{median(one['cpu_seconds']):.2f}"
        )
    Console().print(table)
    of_sizes = [median(one["cpu_seconds"]) for one in found["updates"]]
    print(
        f"{found['new']:,} new images; the slowest size takes {max(of_sizes) / min(of_sizes):.2f} times the fastest"
    )
    print(found["machine"])


if __name__ == "__main__":
    sys.exit(main())
