"""``ccscale turtle``: clusters of feature stores by TURTLE."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_json, add_split, count, number, path
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import say_loading
from ccscale.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stores", metavar="STORE", nargs="+", type=path, help="what `ccscale embed` wrote, of the same shards"
    )
    parser.add_argument("--clusters", metavar="K", type=count, required=True, help="how many clusters")
    parser.add_argument(
        "--out", metavar="FILE", type=path, help="a .parquet or .csv file for key, cluster and confidence"
    )
    parser.add_argument("--steps", metavar="N", type=count, default=6000, help="steps (default: 6000)")
    parser.add_argument(
        "--batch", metavar="N", type=count, default=10_000, help="images of a step (default: 10000)"
    )
    parser.add_argument("--seeds", metavar="N", type=count, default=1, help="so many seeds (default: 1)")
    parser.add_argument(
        "--seed", metavar="SEED", type=number, default=0, help="the first of them (default: 0)"
    )
    add_split(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    say_loading()
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
    put_json(result) if args.json else _show(result)
    return 0


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.store_turtle.turtle_stores` found."""
    figures = [name for name in ("acc", "nmi", "ari") if name in result["seeds"][0]]
    table = TextTable("seed", "loss", *(name.upper() for name in figures))
    for row in result["seeds"]:
        table.add(str(row["seed"]), f"{row['loss']:.4f}", *(f"{row[name]:.3f}" for name in figures))
    table.put()
    put(
        f"seed {result['seed']} has the lowest loss: {counted(result['images'], 'image')} in "
        f"{counted(result['clusters'], 'cluster')}, the largest with {result['use']['largest']:.1%} of them"
    )
    if result["out"]:
        put(f"{result['out']}: its clusters", fold=False)
