"""``ccscale demo``: runs the demo, and tells its scores and what to look at."""

import argparse
from pathlib import Path

from ccscale.cli.arguments import add_json, add_overrides, local_path
from ccscale.cli.results import NAMES, scores_table
from ccscale.exit_codes import STOPPED
from ccscale.printing import put, put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=local_path, default=Path("demo"), help="folder for everything it writes (default: demo)"
    )
    add_overrides(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.demo import demo

    result = demo(args.out, args.overrides)
    if result is None:
        return STOPPED
    if args.json:
        put_json(result)
    else:
        scores_table(result["scores"], NAMES).put()
        put(f"clusters, one per row, the most confident images first: {result['picture']}", fold=False)
        put(f"report, to open in a browser: {result['report']}", fold=False)
    return 0
