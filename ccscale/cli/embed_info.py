"""``ccscale embed info``: tells what a feature store holds, and draws nearest neighbours."""

import argparse
from typing import Any

from ccscale.cli.arguments import (
    add_json,
    add_moved,
    add_store,
    path,
)
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--sheet",
        metavar="FILE.png",
        type=path,
        help="draw some images, each with its nearest neighbours by cosine",
    )
    add_moved(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.embed.info import describe_store
        from ccscale.embed.sheet import draw_neighbours
        from ccscale.features.store import open_features

    facts = describe_store(args.store)
    if args.sheet is not None:
        draw_neighbours(args.sheet, open_features(args.store), args.shards)
        facts["sheet"] = args.sheet
    if args.json:
        put_json(facts)
    else:
        _show(facts)
    return 0


def _show(facts: dict[str, Any]) -> None:
    settings, data = facts["settings"], facts["data"]
    views = f", and {settings['views']} random views of each" if settings["views"] else ""
    put(
        f"{facts['store']}: {facts['rows']:,} rows of {facts['width']:,} numbers ({settings['dtype']}, "
        f"{facts['bytes'] / 1e6:,.1f} MB), of the images of {data['name']} in {data['root']}{views}",
        fold=False,
    )
    put(f"made by {settings['backbone']} at {settings['size']} pixels; weights: {settings['origin']}")
    table = TextTable("split", "rows", "labelled", "shards", text=("split",))
    for split, counts in facts["splits"].items():
        table.add(split, *(f"{counts[name]:,}" for name in ("rows", "labelled", "shards")))
    table.put()
    if (norms := facts["norms"]) is not None:
        put(
            f"length of a row: {norms['mean']:.3g} on average, {norms['least']:.3g} to {norms['greatest']:.3g}; "
            f"cosine with the mean direction: {facts['spread']:.2f} on average"
        )
    if facts["bad"]:
        put(
            f"{facts['bad']:,} rows have no features: their images cannot be decoded, or give none that are finite"
        )
    if facts["neighbours"]:
        put(f"{facts['neighbours'].get('k')} nearest neighbours of each row")
    if "sheet" in facts:
        put(facts["sheet"], fold=False)
