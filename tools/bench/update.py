"""Measures what an update of living clusters takes, by how many images were there before.

    python tools/bench/update.py [--rows 10000 100000 1000000] [--new 1000] [--width 64] [--clusters 20] [--times 3]

Stores of made-up features, in clusters that overlap little; each is a run's own. Told are, of `lineage init` and of
updates by so many new rows (the least of some), the seconds of the CPU and of the clock, without Python's start.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.clusters.init import found_clusters
from ccscale.clusters.rollback import roll_back
from ccscale.clusters.update import UpdateOptions, update_run
from ccscale.config.file import parse_config
from ccscale.printing import TextTable
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from sample_store import write_rows
from tool import exit_code, parser, tell


def measure(rows: int, args: Any, folder: Path) -> dict[str, Any]:
    """Return what one size takes."""
    store(folder / "own", rows, args, 0)
    settings = {
        "run": str(folder / "run"),
        "data": {"features": str(folder / "own")},
        "views": {"raw": 2},
        "model": {"clusters": args.clusters},
        "train": {"global_batch": 256, "max_steps": 200, "lr": 1e-2, "device": "cpu"},
        "evaluate": {"every": 0},
    }
    train_run(parse_config(settings, []))
    found: dict[str, Any] = {"rows": rows}
    with Clock() as clock:
        found_clusters(folder / "run", device="cpu")
    found |= {"init_cpu": clock.cpu, "init_seconds": clock.seconds}
    store(folder / "new", args.new, args, 1)
    clocks = []
    for _ in range(args.times):
        with Clock() as clock:
            update_run(folder / "run", UpdateOptions(features=str(folder / "new")), device="cpu")
        clocks.append(clock)
        roll_back(folder / "run", 1)
    return found | {
        "update_cpu": min(one.cpu for one in clocks),
        "update_seconds": min(one.seconds for one in clocks),
    }


def store(folder: Path, rows: int, args: Any, seed: int) -> None:
    """Write a store of images around so many centres, which are the same ones for every seed."""
    centres = np.random.default_rng(7).normal(size=(args.clusters, args.width))
    rng = np.random.default_rng(seed)
    labels: NDArray[np.int64] = rng.integers(0, args.clusters, rows)
    features = (centres[labels] + 0.5 * rng.normal(size=(rows, args.width))).astype(np.float32)
    keys = [f"{folder.name}-{row}" for row in range(rows)]
    write_rows(folder, [features], keys, labels, np.zeros(rows, bool), f"{seed}{rows:063d}")


class Clock:
    """The seconds of a block, of the CPU and of the clock."""

    cpu = seconds = 0.0

    def __enter__(self) -> "Clock":
        self._began = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        cpu, seconds = self._began
        self.cpu, self.seconds = time.process_time() - cpu, time.monotonic() - seconds


def show(found: list[dict[str, Any]]) -> None:
    """Print what was found."""
    table = TextTable("rows", "init, CPU s", "init, s", "update, CPU s", "update, s")
    for one in found:
        names = ("init_cpu", "init_seconds", "update_cpu", "update_seconds")
        table.add(f"{one['rows']:,}", *(f"{one[name]:.2f}" for name in names))
    table.put()


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    for name, number in (("new", 1000), ("width", 64), ("clusters", 20), ("times", 3)):
        options.add_argument(f"--{name}", type=int, default=number)
    args = options.parse_args()

    def compare() -> int:
        rows = []
        for count in args.rows:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(count, args, Path(folder)))
        tell(rows, args.json, show)
        return 0

    return exit_code(compare)


if __name__ == "__main__":
    sys.exit(main())
