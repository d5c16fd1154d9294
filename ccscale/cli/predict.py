"""``ccscale predict``: writes a table, and tells where."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_checkpoint, add_device, add_run, add_split, amount, count, path
from ccscale.cli.evaluate import show_or_refuse
from ccscale.preempt import SIGNALS, stop_on_signal
from ccscale.printing import put
from ccscale.process_exit import exit_at_once
from ccscale.progress import say_loading
from ccscale.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--shards", metavar="DIR", type=path, required=True, help="the images, with labels or without"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        required=True,
        help="a .parquet or .csv file, or DIR/ for a folder of parts, each of a stretch of a shard",
    )
    parser.add_argument(
        "--features", choices=("backbone", "instance"), help="write these features too (not as CSV)"
    )
    parser.add_argument(
        "--merged", type=count, metavar="K", help="merge to K clusters, by the tree of `evaluate --merge`"
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with shards that appear, until Ctrl-C or SIGTERM"
    )
    parser.add_argument(
        "--idle", type=amount, metavar="SECONDS", help="stop following after so long without a new shard"
    )
    add_checkpoint(parser)
    add_split(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    say_loading()
    with stop_on_signal(SIGNALS if args.follow else (), exit_at_once) as request:
        from ccscale.evaluate.predict import Wanted, predict_run

        result = predict_run(
            args.run,
            args.shards,
            Wanted(args.out, args.features, args.merged, args.follow, args.idle),
            args.split,
            device=args.device,
            workers=args.workers,
            checkpoint=args.checkpoint,
            request=request,
        )
    return show_or_refuse(result, args.json, _show)


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.predict.predict_run` found."""
    where = f"{counted(result['images'], 'image')} in {counted(result['clusters'], 'cluster')}"
    put(f"{result['out']}: {where}", fold=False)
