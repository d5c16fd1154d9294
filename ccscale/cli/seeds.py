"""The seeds of verbs that cluster a feature store: how many are requested, and what each has found."""

import argparse
from typing import Any

from ccscale.cli.arguments import count, number
from ccscale.printing import TextTable, put
from ccscale.wording import counted

LABELS = ("acc", "nmi", "ari")


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add how many seeds, and the first of them."""
    parser.add_argument("--seeds", metavar="N", type=count, default=1, help="number of seeds (default: 1)")
    parser.add_argument("--seed", metavar="SEED", type=number, default=0, help="the first seed (default: 0)")


def show_seeds(result: dict[str, Any], **columns: str) -> None:
    """Print what `evaluate.store_table.summary` tells: columns of the seeds, each with its format.

    By the first one the seed that counts is the lowest.
    """
    formats = columns | {name: ".3f" for name in LABELS if name in result["seeds"][0]}
    titles = [name.upper() if name in LABELS else name for name in formats]
    table = TextTable("seed", *titles)
    for row in result["seeds"]:
        table.add(str(row["seed"]), *(format(row[name], kind) for name, kind in formats.items()))
    table.put()
    put(
        f"seed {result['seed']} has the lowest {next(iter(columns))}: {counted(result['images'], 'image')} in "
        f"{counted(result['clusters'], 'cluster')}, the largest with {result['use']['largest']:.1%} of them"
    )
    if result["out"]:
        put(f"{result['out']}: its clusters", fold=False)
