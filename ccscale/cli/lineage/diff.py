"""``ccscale lineage diff``: what lies between two versions of a run's clusters."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_json, add_run, count
from ccscale.cli.lineage.log import show_version
from ccscale.printing import TextTable, put, put_json

MOVES = 20  # lines of moves that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("old", metavar="V1", type=count, help="the earlier version")
    parser.add_argument("new", metavar="V2", type=count, help="the later version")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.clusters.description import describe_changes
    from ccscale.clusters.lineage import open_lineage

    facts = describe_changes(open_lineage(args.run), args.old, args.new)
    put_json(facts) if args.json else _show(facts)
    return 0


def _show(facts: dict[str, Any]) -> None:
    for version in facts["removed"]:
        put(f"only in {facts['old']}:")
        show_version(version)
    for version in facts["added"]:
        show_version(version)
    for name, ids in (("new ids", facts["born"]), ("removed ids", facts["gone"])):
        if ids:
            put(f"{name}: {', '.join(map(str, ids))}")
    put(f"{facts['images']:+,} images; {facts['changed']:,} images in both have different ids")
    if facts["moves"]:
        table = TextTable("from", "to", "images", text=("from", "to"))
        for move in facts["moves"][:MOVES]:
            table.add(_name(move["from"]), _name(move["to"]), f"{move['images']:,}")
        table.put()
        if (more := len(facts["moves"]) - MOVES) > 0:
            put(f"and {more:,} more (`--json` has them all)")


def _name(one: int | None) -> str:
    return "no features" if one is None else "none" if one < 0 else str(one)
