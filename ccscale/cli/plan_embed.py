"""``ccscale plan embed``: tells what it takes to embed the images of some shards."""

import argparse

from rich.filesize import decimal

from ccscale.cli.arguments import path
from ccscale.cli.embed import add_source, read_config, what_is_asked
from ccscale.printing import put, put_json
from ccscale.progress import duration, loading
from ccscale.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards", metavar="SHARDS", type=path, help="shards of the images, with or without labels"
    )
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    config = read_config(args)
    with loading():
        from ccscale.data.remote.access import Access
        from ccscale.plan.embed_plan import plan_embedding

    plan = plan_embedding(
        args.shards,
        *what_is_asked(args, config),
        args.split,
        device=args.device,
        workers=args.workers,
        access=Access.of(config.data),
    )
    if args.json:
        put_json(plan.as_json())
        return 0
    put(
        f"{counted(plan.images, 'image')}, {counted(plan.views, 'view')} of each, {plan.width:,} numbers each, "
        f"by {plan.origin}, on {plan.device}",
        fold=False,
    )
    put(
        f"{duration(plan.seconds)} at {plan.rate:,.1f} images a second; {decimal(plan.disk)} of disk; the process "
        f"holds {decimal(plan.bytes)}, its loader processes not counted",
        fold=False,
    )
    put("measured here on the first images, by one process alone on the machine")
    return 0
