"""``ccscale duplicates``: finds images that are nearly the same."""

import argparse
from typing import Any

from ccscale.cli.arguments import (
    add_device_alone,
    add_json,
    add_moved,
    add_split,
    add_store,
    amount,
    path,
)
from ccscale.printing import put, put_json
from ccscale.progress import loading, say
from ccscale.wording import agree, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--above",
        metavar="COSINE",
        type=amount,
        help="compare features only, with this minimum cosine (default: compare neighbours as images)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=path,
        help="folder for the tables and the picture (default: STORE/duplicates)",
    )
    parser.add_argument(
        "--keep",
        choices=("resolution", "order"),
        default="resolution",
        help="which image of a group to keep: the one with the most pixels (default), or the first",
    )
    add_moved(parser)
    add_split(parser)
    add_device_alone(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.near_duplicates import find_duplicates

    result = find_duplicates(
        args.store,
        args.above,
        out=args.out,
        keep=args.keep,
        shards=args.shards,
        splits=args.split,
        device=args.device,
    )
    if result is not None:
        put_json(result) if args.json else _show(result)
    return 0


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.near_duplicates.find_duplicates` found."""
    looks = agree(result["pairs"], "looks", "look") + " alike"
    cosine = agree(result["pairs"], "has", "have") + f" a cosine of {result['above'] or 1:g} or more"
    put(
        f"{counted(result['pairs'], 'pair')} of {counted(result['images'], 'image')} "
        f"{looks if result['above'] is None else cosine}: "
        f"{counted(result['groups'], 'group')}; leaving out {counted(result['left_out'], 'image')} "
        "keeps one of each"
    )
    if result["across"]:
        put(
            f"{counted(result['across'], 'pair')} of them {agree(result['across'], 'spans', 'span')} two splits"
        )
    if result["recall"] < 1:
        say(f"note: approximate search: {result['recall']:.1%} of the nearest neighbours were found")
    if result["crowded"]:
        say(
            f"note: all {result['k']} neighbours of {counted(result['crowded'], 'image')} are "
            f"near-duplicates; there may be more: run `ccscale embed` with --neighbours {4 * result['k']}"
        )
    put(f"{result['out']}: pairs.parquet, groups.parquet, keep.txt", fold=False)
    if result["sheet"]:
        put(f"{result['sheet']}: the largest groups", fold=False)
