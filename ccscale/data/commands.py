"""The commands ``ccscale shards make|index|verify|info``: arguments, and what each prints.

Each command is a pair: ``add_*_arguments(parser)`` and ``run_*(args)``, which returns the exit code and raises
`InputError` for a mistake in what was asked.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ccscale.data.adopt import adopt
from ccscale.data.images import FORMATS
from ccscale.data.shards import REJECTED, make_shards
from ccscale.data.sources import KINDS, open_source
from ccscale.data.verify import info, verify
from ccscale.errors import InputError

MANY_CLASSES = 20  # more are not printed one by one


def add_make_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards make``."""
    parser.usage = "%(prog)s KIND [SOURCE] OUT [options]"
    kinds = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    parser.add_argument("kind", metavar="KIND", help=kinds)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="[SOURCE] OUT",
        help="what to read (not for digits), and the folder for the shards",
    )
    parser.add_argument("--split", metavar="NAME", help="take the whole folder as one split of this name")
    parser.add_argument("--no-labels", action="store_true", help="sub-folders are not classes")
    parser.add_argument(
        "--resize", type=int, metavar="PIXELS", help="reduce the short side to this, never enlarge"
    )
    parser.add_argument(
        "--format", metavar="FORMAT", help=f"store all images as {', '.join(FORMATS)} (default: as they are)"
    )
    parser.add_argument(
        "--quality", type=int, default=95, help="of images encoded anew (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the samples' order (default: %(default)s)")
    parser.add_argument(
        "--shard-samples",
        type=int,
        metavar="N",
        help="samples in a shard, at most (default: 10000, or about 256 MB)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    _add_json(parser)


def run_make(args: argparse.Namespace) -> int:
    """Run ``shards make``."""
    *before, out = args.paths
    if len(before) > 1:
        raise InputError(f"make takes KIND SOURCE OUT; {' '.join(args.paths)!r} are {len(args.paths)} paths")
    options: dict[str, Any] = {"split": args.split} if args.split is not None else {}
    if args.no_labels:
        options["labels"] = False
    start = time.monotonic()
    source = open_source(args.kind, before[0] if before else None, **options)
    manifest = make_shards(
        source,
        out,
        shard_samples=args.shard_samples,
        resize=args.resize,
        format=args.format,
        quality=args.quality,
        seed=args.seed,
        workers=args.workers,
    )
    rejected = manifest.made_by["rejected"]
    if rejected:
        print(f"{rejected:,} images cannot be read: see {os.path.join(out, REJECTED)}", file=sys.stderr)
    facts = info(out) | {"rejected": rejected, "seconds": round(time.monotonic() - start, 3)}
    _print_info(facts, args.json)
    return 0


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards index``."""
    parser.add_argument("dir", metavar="DIR", help="local folder with tars")
    parser.add_argument("--split", metavar="NAME", help="split of all tars (default: by their names)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    _add_json(parser)


def run_index(args: argparse.Namespace) -> int:
    """Run ``shards index``."""
    adopt(args.dir, args.split, args.workers)
    return run_info(args)


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards verify``."""
    parser.add_argument("dir", metavar="DIR", help="folder or URL of the shards")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    _add_json(parser)


def run_verify(args: argparse.Namespace) -> int:
    """Run ``shards verify``: 0 if all is well, 1 if there are problems."""
    problems = verify(args.dir, args.workers, progress=True)
    if args.json:
        listed = [{"shard": problem.shard, "what": problem.what} for problem in problems]
        print(json.dumps({"root": args.dir, "ok": not problems, "problems": listed}))
    elif problems:
        for problem in problems:
            print(f"{problem.shard}: {problem.what}")
    else:
        print(f"{args.dir}: all shards are as the manifest says")
    return 1 if problems else 0


def add_info_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards info``."""
    parser.add_argument("dir", metavar="DIR", help="folder or URL of the shards")
    _add_json(parser)


def run_info(args: argparse.Namespace) -> int:
    """Run ``shards info``."""
    _print_info(info(args.dir), args.json)
    return 0


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def _print_info(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    console = Console()
    formats = ", ".join(f"{count:,} {ext}" for ext, count in facts["extensions"].items())
    console.print(f"{facts['name']} in {facts['root']}: {formats}", markup=False, highlight=False)
    splits = Table("split", *(_number(name) for name in ("samples", "labelled", "shards", "MB")))
    for split, counts in facts["splits"].items():
        numbers = (counts["samples"], counts["labelled"], counts["shards"], counts["bytes"] / 1e6)
        splits.add_row(split, *(f"{number:,.0f}" for number in numbers[:3]), f"{numbers[3]:,.1f}")
    console.print(splits)
    if len(facts["classes"]) > MANY_CLASSES:
        console.print(f"{len(facts['classes']):,} classes; --json lists them")
    elif facts["classes"]:
        classes = Table(_number("label"), "class", *(_number(split) for split in facts["splits"]))
        for entry in facts["classes"]:
            counts = (f"{entry['samples'][split]:,}" for split in facts["splits"])
            classes.add_row(str(entry["label"]), escape(entry["name"]), *counts)
        console.print(classes)


def _number(name: str) -> Column:
    """Return a table's column of numbers."""
    return Column(name, justify="right")
