"""``ccscale export``: copies a network, and tells how to load it."""

import argparse

from ccscale.cli.arguments import add_checkpoint, add_json, add_run, local_path
from ccscale.printing import put, put_json
from ccscale.progress import say_loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", metavar="OUT", type=local_path, help="a new folder")
    add_checkpoint(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    say_loading()
    from ccscale.evaluate.opened import run_and_checkpoint
    from ccscale.model.export import copy_export

    _, found = run_and_checkpoint(args.run, args.checkpoint)
    copy_export(found.path, args.out)
    if args.json:
        put_json({"out": str(args.out), "step": found.step})
    else:
        load = f"load it with ccscale.load('{args.out}')"
        put(f"{args.out}: the network of step {found.step}; {load}", fold=False)
    return 0
