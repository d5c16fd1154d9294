"""``ccscale kmeans``: k-means over a feature store."""

import argparse

from ccscale.cli.arguments import (
    add_device_alone,
    add_json,
    add_split,
    add_store,
    count,
    number,
    path,
)
from ccscale.cli.seeds import add_seeds, show_seeds
from ccscale.printing import put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--clusters",
        metavar="K",
        type=count,
        required=True,
        help="number of clusters (`ccscale how-many` estimates it)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        help="a .parquet or .csv file for key, cluster and distance; the centres are written beside it",
    )
    parser.add_argument(
        "--spherical", action="store_true", help="spherical k-means: features and centres have length 1"
    )
    add_view(parser)
    add_seeds(parser)
    add_split(parser)
    add_device_alone(parser)
    add_json(parser)


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a view."""
    parser.add_argument(
        "--view",
        metavar="V",
        type=view,
        default=0,
        help="number of a view, or mean: the mean of all views (default: 0, the unchanged image)",
    )


def view(text: str) -> int | None:
    """Read a view's number, or ``mean``: None."""
    return None if text == "mean" else number(text)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.store_kmeans import cluster_store

    result = cluster_store(
        args.store,
        args.clusters,
        spherical=args.spherical,
        view=args.view,
        seeds=args.seeds,
        first_seed=args.seed,
        splits=args.split,
        out=args.out,
        device=args.device,
    )
    if result is not None:
        put_json(result) if args.json else show_seeds(result, inertia=",.6g", passes="d")
    return 0
