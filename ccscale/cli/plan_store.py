"""``ccscale plan store``: tells what k-means and the search for neighbours take of a store."""

import argparse
from typing import TYPE_CHECKING

from rich.filesize import decimal

from ccscale.cli.arguments import (
    add_device_alone,
    add_json,
    add_split,
    add_store,
    count,
)
from ccscale.cli.kmeans import add_view
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import duration, loading
from ccscale.wording import counted

if TYPE_CHECKING:
    from ccscale.plan.store_plan import StorePlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--clusters", metavar="K", type=count, help="for k-means with K clusters")
    parser.add_argument("--spherical", action="store_true", help="for spherical k-means")
    parser.add_argument(
        "--neighbours", metavar="K", type=count, help="for the K nearest neighbours of each image"
    )
    add_view(parser)
    add_split(parser)
    add_device_alone(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.plan.store_plan import plan_store

    plan = plan_store(
        args.store,
        args.clusters,
        args.neighbours,
        spherical=args.spherical,
        view=args.view,
        splits=args.split,
        device=args.device,
    )
    put_json(plan.as_json()) if args.json else show(plan)
    return 0


def show(plan: "StorePlan") -> None:
    """Print it."""
    put(f"{plan.store}: {counted(plan.rows, 'row')} of {plan.width:,} numbers, on {plan.device}", fold=False)
    table, lines = TextTable("", "time", "memory", "disk", text=("",)), []
    if (means := plan.k_means) is not None:
        table.add("k-means", duration(means.seconds), decimal(means.bytes), "-")
        work = means.work
        starts = f"{counted(work.starts, 'start')} of {counted(means.passes, 'pass', 'passes')}"
        rows = f"{work.sample:,} rows, then {work.passes} over all" if work.passes else "all rows"
        about = "" if work.passes else ", about: as many as with some of them"
        lines.append(f"k-means: {starts} over {rows}{about}")
    if (near := plan.neighbours) is not None:
        table.add("neighbours", duration(near.seconds), decimal(near.bytes), decimal(near.disk))
        how = "each row is compared with every other"
        if near.cells:
            how = (
                f"each row is compared with {near.probes:,} of {near.cells:,} cells, recall {near.recall:.3f}"
            )
        lines.append(f"neighbours: {how}; meanwhile {decimal(near.meanwhile)} more of disk")
    table.put()
    for line in lines:
        put(line, fold=False)
    put("measured here on parts of the work, by one process alone on the machine")
