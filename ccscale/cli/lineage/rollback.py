"""``ccscale lineage rollback``: makes an older version of a run's clusters the current one."""

import argparse

from ccscale.cli.arguments import add_json, add_run, count
from ccscale.printing import put, put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "version",
        metavar="V",
        type=count,
        help="the version to make current (`lineage log --all` lists them)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.clusters.rollback import roll_back

    before = roll_back(args.run, args.version)
    if args.json:
        put_json({"version": args.version, "before": before})
    elif before == args.version:
        put(f"version {args.version} is the current one")
    else:
        put(
            f"version {args.version} is the current one again; version {before} stays there, and can come back"
        )
    return 0
