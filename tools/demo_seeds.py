"""Runs the demo with several seeds and prints a line of scores for each.

    python tools/demo_seeds.py OUT [--seeds 0 1 2 3]

What is in OUT already is not trained again. The labels choose nothing: each line is a run's last step.
"""

import argparse
import sys
import time
from pathlib import Path

from ccscale.demo import demo


def main() -> int:
    """Run the demos one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    args = parser.parse_args()
    print("seed  clusters by          ACC   NMI   ARI   seconds in all")
    for seed in args.seeds:
        start = time.monotonic()
        result = demo(args.out / f"seed{seed}", [f"seed={seed}"])
        seconds = time.monotonic() - start
        if result is None:  # asked to stop
            return 75
        for title, row in result["scores"].items():
            scores = "  ".join(f"{row[name]:.3f}"[1:] for name in ("acc", "nmi", "ari"))
            print(f"{seed:4}  {title:19}  {scores}   {seconds:6.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
