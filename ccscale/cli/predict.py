"""``ccscale predict``: writes a table, and tells where."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ccscale.cli.arguments import (
    add_checkpoint,
    add_clusters,
    add_device,
    add_follow,
    add_images,
    add_network,
    add_reject,
    add_split,
    at_hand,
    count,
    path,
)
from ccscale.cli.results import show_or_refuse
from ccscale.errors import InputError
from ccscale.preempt import SIGNALS, stop_on_signal
from ccscale.printing import put
from ccscale.process_exit import exit_at_once
from ccscale.progress import loading
from ccscale.rank_environment import RankEnvironment
from ccscale.wording import counted

STANDARD_OUTPUT = "-"


EXAMPLES = """\
examples:
  ccscale predict runs/photos --shards data/new --out clusters.parquet
  ccscale predict runs/photos --images ~/photos/2026 --out clusters.csv
  ccscale predict exported --images a.jpg b.heic --out -
  ccscale predict runs/photos --images ~/new --reject .95 --out clusters.csv   # -1 if no cluster fits
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_network(parser)
    add_images(parser, ", - for standard input); a row's key is its path")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        required=True,
        help="a .parquet or .csv file; DIR/ for a folder of files, one per part of a shard; - for CSV on standard "
        "output",
    )
    parser.add_argument(
        "--features", choices=("backbone", "instance"), help="also write these features (not as CSV)"
    )
    parser.add_argument(
        "--merged", type=count, metavar="K", help="merge to K clusters, using the tree of `evaluate --merge`"
    )
    add_reject(parser, " (-1), with the reason")
    add_follow(parser)
    add_checkpoint(parser)
    add_clusters(parser)
    add_split(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    if args.out != STANDARD_OUTPUT:
        return _predict(args)
    if args.json or RankEnvironment.read().world > 1:
        raise InputError("--out - works with one process and without --json: give a file")
    with tempfile.TemporaryDirectory(prefix="ccscale-") as folder:
        table = Path(folder, "table.csv")
        code = _predict(argparse.Namespace(**vars(args) | {"out": str(table)}), quiet=True)
        with open(table, encoding="utf-8", newline="") as file:
            shutil.copyfileobj(file, sys.stdout)
    return code


def _predict(args: argparse.Namespace, quiet: bool = False) -> int:
    with stop_on_signal(SIGNALS if args.follow else (), exit_at_once) as request:
        with loading():
            from ccscale.evaluate.predict import PredictOptions, predict_run

        result = predict_run(
            at_hand(args.run),
            args.shards,
            PredictOptions(args.out, args.features, args.merged, args.follow, args.idle, args.reject),
            args.split,
            images=args.images,
            device=args.device,
            workers=args.workers,
            checkpoint=args.checkpoint,
            clusters=args.clusters,
            request=request,
        )
    return show_or_refuse(result, args.json, (lambda _: None) if quiet else _show)


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.predict.predict_run` found."""
    where = f"{counted(result['images'], 'image')} in {counted(result['clusters'], 'cluster')}"
    if "unassigned" in result:
        far, left = result["too_far"], result["unassigned"]
        where += (
            f"; {left:,} without a cluster: {far:,} too far from the run's images, {left - far:,} doubtful"
        )
    put(f"{result['out']}: {where}", fold=False)
