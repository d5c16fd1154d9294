"""``ccscale how-many``: how many clusters the images of a feature store seem to have."""

import argparse

from ccscale.cli.arguments import add_json, add_split, add_store, local_path, number
from ccscale.cli.results import show_advice
from ccscale.printing import put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--picture",
        metavar="FILE",
        type=local_path,
        help="draw the curves of the criteria into this .png file",
    )
    parser.add_argument(
        "--seed", type=number, default=0, metavar="N", help="seed for random draws (default: 0)"
    )
    add_split(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.how_many import advise_store

    result = advise_store(args.store, args.split, args.seed, args.picture)
    put_json(result) if args.json else show_advice(result)
    return 0
