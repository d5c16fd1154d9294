"""``ccscale demo``."""

import argparse
from pathlib import Path

from ccscale.cli.arguments import add_json, add_overrides, local_path
from ccscale.cli.evaluate import NAMES, scores_table
from ccscale.cli.loading import say_loading
from ccscale.exit_codes import STOPPED
from ccscale.printing import put, put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=local_path, default=Path("demo"), help="folder for all it makes (default: demo)"
    )
    add_overrides(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo; tell its scores and what to look at."""
    say_loading()
    from ccscale.demo import demo

    result = demo(args.out, args.overrides)
    if result is None:
        return STOPPED
    if args.json:
        put_json(result)
    else:
        scores_table(result["scores"], NAMES).put()
        put(f"clusters, a row each, the surest images first: {result['picture']}", fold=False)
        put(f"all about them, for a browser: {result['report']}", fold=False)
    return 0
