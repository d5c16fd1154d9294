"""``ccscale how-many``: how many clusters the images of a feature store seem to have."""

import argparse
from typing import Any

from ccscale.cli.arguments import (
    add_json,
    add_split,
    add_store,
    local_path,
    number,
)
from ccscale.printing import TextTable, put, put_json
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


def show_advice(result: dict[str, Any]) -> None:
    """Print advice: the sentence, and what each criterion votes for."""
    put(f"{result['sentence']} (of {result['images']:,} images)")
    table = TextTable("criterion", "votes for", "nearly as good", text=("criterion",))
    for vote in result["votes"]:
        low, high = vote["near"]
        votes = (f"{vote['clusters']:,}", f"{low:,} to {high:,}") if vote["sees"] else ("no clusters", "")
        table.add(vote["criterion"], *votes)
    table.put()
    if "heads" in result:
        stable = ", ".join(f"{head['stability']:.3f} of {head['clusters']:,}" for head in result["heads"])
        vote = f"{result['heads_vote']:,}"
        put(f"the run's own heads vote for {vote} (not counted): stability {stable} clusters")
    if result["picture"] is not None:
        put(f"curves: {result['picture']}", fold=False)
