"""``ccscale shards info``: tells what shards hold, and draws a preview."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_json, path
from ccscale.data.shards.verify import info
from ccscale.draw.preview import draw_preview
from ccscale.printing import TextTable, put, put_json

MANY_CLASSES = 20  # more are not printed one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=path, help="folder or URL of the shards")
    parser.add_argument(
        "--preview",
        metavar="FILE.png",
        type=path,
        help="draw images of each class into this file, as a contact sheet",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    facts = info(args.dir)
    if args.preview is not None:
        draw_preview(args.preview, args.dir)
        facts["preview"] = args.preview
    show_info(facts, args.json)
    return 0


def _show_pixels(pixels: dict[str, Any]) -> None:
    """Print what was measured of images of channels."""
    columns = {f"{each} %": pixels["percentiles"][each] for each in ("0", "0.1", "50", "99.9", "100")}
    table = TextTable("channel", "mean", "deviation", *columns)
    for number, (mean, std, *ends) in enumerate(
        zip(pixels["mean"], pixels["std"], *columns.values(), strict=True)
    ):
        table.add(str(number), *(f"{value:,.6g}" for value in (mean, std, *ends)))
    put(f"{pixels['channels']} channels of {pixels['type']}; percentiles, over all pixels:")
    table.put()


def show_info(facts: dict[str, Any], as_json: bool) -> None:
    """Print what `data.shards.verify.info` found, and what a verb adds to it."""
    if as_json:
        put_json(facts)
        return
    formats = ", ".join(f"{count:,} {ext}" for ext, count in facts["extensions"].items())
    put(f"{facts['name']} in {facts['root']}: {formats}")
    splits = TextTable("split", "samples", "labelled", "shards", "MB", text=("split",))
    for split, counts in facts["splits"].items():
        numbers = (counts["samples"], counts["labelled"], counts["shards"], counts["bytes"] / 1e6)
        splits.add(split, *(f"{number:,.0f}" for number in numbers[:3]), f"{numbers[3]:,.1f}")
    splits.put()
    if (pixels := facts.get("pixels")) is not None:
        _show_pixels(pixels)
    if len(facts["classes"]) > MANY_CLASSES:
        put(f"{len(facts['classes']):,} classes; --json lists them")
    elif facts["classes"]:
        classes = TextTable("label", "class", *facts["splits"], text=("class",))
        for entry in facts["classes"]:
            counts = (f"{entry['samples'][split]:,}" for split in facts["splits"])
            classes.add(str(entry["label"]), entry["name"], *counts)
        classes.put()
