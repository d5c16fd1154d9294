"""``ccscale lineage refuse``: declines proposals, which are not made again."""

import argparse

from ccscale.cli.arguments import add_json, add_run
from ccscale.cli.lineage.accept import add_proposals
from ccscale.cli.lineage.show import show_made
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_proposals(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.clusters.decisions import refuse

    number = refuse(args.run, args.proposals)
    return show_made(args.run, [] if number is None else [number], args.json)
