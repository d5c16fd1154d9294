#!/usr/bin/env python
"""Everything worth knowing of a GPU, in ten minutes: each part prints its figures, and fails alone.

    python tools/bench/gpu.py                  all parts on the first GPU
    python tools/bench/gpu.py step losses      some
    python tools/bench/gpu.py --dry            on a CPU and small: whether the parts run, not what they find

Parts: step (beside a bare loop, host waits, memory beside the plan's), parts (for `ccscale plan --cluster
--parts FILE`), norm, views, losses, feed (from shards to the device), compile (train.compile).
The exit code is 1 if one failed.
"""

import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

import torch

from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser

BEGUN = time.perf_counter()
PARTS = ("step", "parts", "norm", "views", "losses", "feed", "compile")
"""Modules of `gpu_parts`; each has ``measure(device, dry)``, which prints a line a figure."""


def main() -> int:
    """Measure one part after the other."""
    options = parser(__doc__, as_json=False)
    options.add_argument("parts", metavar="PART", nargs="*", help="which; by default all")
    options.add_argument("--dry", action="store_true", help="on a CPU, small")
    args = options.parse_args()

    def run() -> int:
        if unknown := sorted(set(args.parts) - set(PARTS)):
            raise InputError(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
        device = pick_device("cpu" if args.dry else "cuda")
        where = "a CPU, dry" if args.dry else torch.cuda.get_device_name(device)
        print(f"on {where}, torch {torch.__version__}", flush=True)
        with process_group(RankEnvironment(), device):
            return max([measure(name, device, args.dry) for name in args.parts or PARTS])

    return exit_code(run)


def measure(name: str, device: torch.device, dry: bool) -> int:
    """Take a part; return 1 if it failed, which is told."""
    begun = time.perf_counter()
    print(f"== {name}, at {begun - BEGUN:.0f} s", flush=True)
    try:
        import_module(f"gpu_parts.{name}").measure(device, dry)
    except Exception:  # the others are worth knowing all the same
        print(f"   FAILED\n{traceback.format_exc(limit=-4)}", flush=True)
        return 1
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"   {name}: {time.perf_counter() - begun:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
