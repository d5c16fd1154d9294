"""``ccscale turtle``: clusters of feature stores by TURTLE."""

import argparse

from ccscale.cli.arguments import add_device_alone, add_json, add_split, count, path
from ccscale.cli.seeds import add_seeds, show_seeds
from ccscale.printing import put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stores",
        metavar="STORE",
        nargs="+",
        type=path,
        help="feature stores (`ccscale embed`) of the same shards",
    )
    parser.add_argument("--clusters", metavar="K", type=count, required=True, help="number of clusters")
    parser.add_argument(
        "--out", metavar="FILE", type=path, help="a .parquet or .csv file for key, cluster and confidence"
    )
    parser.add_argument(
        "--steps", metavar="N", type=count, default=6000, help="number of steps (default: 6000)"
    )
    parser.add_argument(
        "--batch", metavar="N", type=count, default=10_000, help="images per step (default: 10000)"
    )
    add_seeds(parser)
    add_split(parser)
    add_device_alone(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.store_turtle import turtle_stores

    result = turtle_stores(
        args.stores,
        args.clusters,
        steps=args.steps,
        batch=args.batch,
        seeds=args.seeds,
        first_seed=args.seed,
        splits=args.split,
        out=args.out,
        device=args.device,
    )
    put_json(result) if args.json else show_seeds(result, loss=".4f")
    return 0
