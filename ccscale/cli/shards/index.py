"""``ccscale shards index``: writes manifest and indexes, and tells what the shards hold."""

import argparse

from ccscale.cli.arguments import add_processes, add_strict, path
from ccscale.cli.shards.info import show_info
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.verify import info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=path, help="local folder with tars, or folders of tars")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="[PATTERN=]NAME",
        help="split of all tars, or of those whose names match, as '*_b_*.tar=test'; may be repeated (default: by "
        "their names and folders)",
    )
    parser.add_argument(
        "--out",
        metavar="OUT",
        type=path,
        help="write manifest, indexes and links to the tars here (default: beside them)",
    )
    parser.add_argument(
        "--label-field",
        metavar="NAME",
        help="field of the samples' .json with the label (default: their .cls)",
    )
    add_strict(parser)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    out = args.dir if args.out is None else args.out
    made = adopt(
        args.dir, args.split, args.workers, out=args.out, label_field=args.label_field, strict=args.strict
    )
    show_info(info(out) | {"passed_over": made.passed_over}, args.json)
    return 0
