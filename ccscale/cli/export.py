"""``ccscale export``: hands a network on, and tells how to load it."""

import argparse

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_json, add_run, local_path
from ccscale.printing import put, put_json
from ccscale.progress import say, say_loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", metavar="OUT", type=local_path, help="a new folder")
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="of the network, for its model card, as Hugging Face abbreviates it: apache-2.0 (default: unknown)",
    )
    add_checkpoint(parser)
    add_clusters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    say_loading()
    from ccscale.export.export import export_run

    told = export_run(args.run, args.out, args.checkpoint, args.clusters, args.license)
    for sentence in told["notes"]:
        say(f"note: {sentence}")
    if args.json:
        put_json({"out": str(args.out), "step": told["step"]})
    else:
        load = f"load it with ccscale.load('{args.out}')"
        put(f"{args.out}: the network of step {told['step']}; {load}", fold=False)
    return 0
