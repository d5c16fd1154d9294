"""``ccscale lineage accept``: takes proposals in, as a new version."""

import argparse

from ccscale.cli.arguments import add_device_alone, add_json, add_run
from ccscale.cli.lineage.show import show_made
from ccscale.progress import loading

EXAMPLES = """\
examples:
  ccscale lineage show runs/photos            # p1, a birth: … with its picture
  ccscale lineage accept runs/photos p1 p3
  ccscale lineage rollback runs/photos 4      # to undo it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    add_proposals(parser)
    add_device_alone(parser)
    add_json(parser)


def add_proposals(parser: argparse.ArgumentParser) -> None:
    """Add the proposals that are decided on."""
    parser.add_argument(
        "proposals", metavar="ID", nargs="+", help="proposals, as listed by `ccscale lineage show`: p1, p2 …"
    )


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.clusters.decisions import accept

    number = accept(args.run, args.proposals, args.device)
    return show_made(args.run, [] if number is None else [number], args.json)
