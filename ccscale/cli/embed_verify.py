"""``ccscale embed verify``: tells the problems of a feature store."""

import argparse

from ccscale.cli.arguments import (
    add_json,
    add_moved,
    add_store,
)
from ccscale.exit_codes import FAULT
from ccscale.printing import put, put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    add_moved(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.embed.verify import verify_store

    found = verify_store(args.store, args.shards)
    if args.json:
        listed = [{"place": problem.place, "what": problem.what} for problem in found.problems]
        put_json(
            {
                "store": args.store,
                "ok": not found.problems,
                "problems": listed,
                "shards_not_compared": found.shards,
            }
        )
    else:
        for problem in found.problems:
            put(f"{problem.place}: {problem.what}", fold=False)
        if not found.problems:
            put(f"{args.store}: all files match the listing", fold=False)
        if found.shards is not None:
            put(f"the shards were not compared: {found.shards}", fold=False)
    return FAULT if found.problems else 0
