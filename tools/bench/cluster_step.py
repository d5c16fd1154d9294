#!/usr/bin/env python
"""Steps of real processes over links with a limit beside those that `ccscale plan --cluster` simulates.

    python tools/bench/cluster_step.py
    python tools/bench/cluster_step.py --world 2 --zero 0 2 --rate 50 100 --backbone resnet18

Each rank is a process in a network namespace of its own, whose link lets a number of Mbit/s out (root is needed).
The parts of a step are measured by each rank alone; `stretch` says how many times as long computing takes together,
where ranks share cores. Real and paper are in ms, the shortest of five; ratio: to the step without a limit.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from ccscale.config.file import parse_config
from ccscale.errors import InputError

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from limited_links import why_not
from limited_steps import compare
from tool import exit_code, parser, tell


def main() -> int:
    """Compare at each number of ranks and each ZeRO stage."""
    options = parser(__doc__)
    options.add_argument("--world", type=int, nargs="+", default=[2, 4], help="ranks (default: 2 4)")
    options.add_argument("--zero", type=int, nargs="+", default=[0, 1, 2], help="stages (default: 0 1 2)")
    options.add_argument("--rate", type=float, nargs="+", default=[200, 100, 50], help="Mbit/s (200 100 50)")
    options.add_argument("--backbone", default="test_resnet", help="(default: %(default)s)")
    options.add_argument("--size", type=int, default=32, help="of an image (default: %(default)s)")
    options.add_argument("--images", type=int, default=16, help="of a rank (default: %(default)s)")
    args = options.parse_args()

    def run() -> int:
        if (reason := why_not()) is not None:
            raise InputError(f"links cannot be limited here: {reason}")
        found = []
        for world in args.world:
            for zero in args.zero:
                settings = {
                    "data": {"shards": "-"},
                    "views": {"size": args.size},
                    "model": {"backbone": args.backbone, "clusters": 10},
                    "train": {"global_batch": args.images, "zero": zero, "device": "cpu"},
                }
                compared = compare(parse_config(settings), world, [1e6 * rate for rate in args.rate])
                found.append({"world": world, "zero": zero, "rates": args.rate, **asdict(compared)})
        tell({"steps": found}, args.json, show)
        return 0

    return exit_code(run)


def show(found: dict[str, Any]) -> None:
    """Print a line a limit."""
    heads = ("stretch", "free", "Mbit/s", "real", "paper", "ratio", "on paper", "off by")
    table = Table(*(Column(head, justify="right") for head in ("ranks", "ZeRO", *heads)))
    for of in found["steps"]:
        for rate, real, paper in zip(of["rates"], of["real"], of["paper"], strict=True):
            ratios = f"{real / of['free']:.2f}", f"{paper / of['free']:.2f}", f"{paper / real - 1:+.0%}"
            seconds = f"{of['stretch']:.1f}", f"{1e3 * of['free']:.0f}", f"{rate:g}"
            table.add_row(
                str(of["world"]),
                str(of["zero"]),
                *seconds,
                f"{1e3 * real:.0f}",
                f"{1e3 * paper:.0f}",
                *ratios,
            )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
