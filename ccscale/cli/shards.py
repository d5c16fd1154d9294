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

from ccscale.cli.arguments import byte_size, count, number, path
from ccscale.data.making.images import FORMATS
from ccscale.data.making.notes import REJECTED
from ccscale.data.making.shards import DUPLICATES, make_shards
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.verify import check, info
from ccscale.data.sources.kinds import KINDS, open_source
from ccscale.draw.preview import draw_preview
from ccscale.errors import InputError
from ccscale.exit_codes import STOPPED
from ccscale.printing import Sheet, put
from ccscale.wording import counted, verb

MANY_CLASSES = 20  # more are not printed one by one

# Options of `shards make` that go on to the kind of source, where they are given.
SOURCE_OPTIONS = ("split", "labels", "classes", "coarse", "path_column", "label_column", "key_column")

MAKE_EXAMPLES = """\
examples:
  ccscale shards make folder ~/photos data/photos
  ccscale shards make folder ~/photos data/photos --resize 256 --format jpg --dedup
  ccscale shards make imagenet ILSVRC2012_img_train.tar data/imagenet-10 --classes imagenet-10
  ccscale shards make table photos.parquet data/photos --path-column file

The same command again goes on where it was stopped, and does nothing where all is done. Exit code 75: the shards
are whole, but some images could not be read for now (a server's fault, no answer): the same command tries these
again.
"""


def add_make_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards make``."""
    parser.usage = "%(prog)s KIND [SOURCE] OUT [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, KINDS))
    kinds = "\n".join(f"  {name:{width}}  {kind.about}" for name, kind in KINDS.items())
    parser.epilog = f"kinds:\n{kinds}\n\n{MAKE_EXAMPLES}"
    parser.add_argument("kind", metavar="KIND", help="of source, see below")
    parser.add_argument(
        "paths",
        nargs="+",
        type=path,
        metavar="[SOURCE] OUT",
        help="what to read (not for digits), and the folder for the shards",
    )
    which = parser.add_argument_group("which images")
    which.add_argument("--split", metavar="NAME", help="take all as one split of this name")
    which.add_argument(
        "--no-labels", dest="labels", action="store_const", const=False, help="sub-folders are not classes"
    )
    which.add_argument(
        "--classes", metavar="TEXT", type=path, help="only these: names with commas, a file, or a known list"
    )
    which.add_argument(
        "--coarse", action="store_const", const=True, help="superclasses as labels, as CIFAR-100 has them"
    )
    which.add_argument("--path-column", metavar="NAME", help="a table's column of paths or URLs")
    which.add_argument("--label-column", metavar="NAME", help="a table's column of labels")
    which.add_argument("--key-column", metavar="NAME", help="a table's column of keys (default: paths)")
    which.add_argument(
        "--dedup", action="store_true", help=f"leave out files with the same bytes; listed in {DUPLICATES}"
    )
    which.add_argument(
        "--strict",
        action="store_true",
        help="refuse a source with files that are passed over, or whose keys are not simply their names",
    )
    how = parser.add_argument_group("how they are stored (default: their bytes as they are)")
    how.add_argument(
        "--resize", type=count, metavar="PIXELS", help="reduce the short side to this, never enlarge"
    )
    how.add_argument("--format", metavar="FORMAT", help=f"store all images as {', '.join(FORMATS)}")
    how.add_argument(
        "--quality",
        type=int,
        default=95,
        metavar="1-100",
        help="of images encoded anew (default: %(default)s)",
    )
    shards = parser.add_argument_group("the shards")
    shards.add_argument(
        "--shard-samples", type=count, metavar="N", help="samples in a shard, at most (default: 10000)"
    )
    shards.add_argument(
        "--shard-bytes",
        type=byte_size,
        default="256MiB",
        metavar="SIZE",
        help="what a shard is to stay near to, as 256MB or 1GiB (default: %(default)s)",
    )
    shards.add_argument("--seed", type=number, default=0, help="of the samples' order (default: %(default)s)")
    _add_workers(parser)
    _add_json(parser)


def run_make(args: argparse.Namespace) -> int:
    """Run ``shards make``."""
    *before, out = args.paths
    if len(before) > 1:
        raise InputError(f"make takes KIND SOURCE OUT; {' '.join(args.paths)!r} are {len(args.paths)} paths")
    if before and _lies_in(out, before[0]):
        raise InputError(
            f"{out} lies in {before[0]}, which stays as it is: name a folder outside for the shards"
        )
    options = {name: value for name in SOURCE_OPTIONS if (value := getattr(args, name)) is not None}
    start = time.monotonic()
    source = open_source(args.kind, before[0] if before else None, **options)
    manifest = make_shards(
        source,
        out,
        shard_samples=args.shard_samples,
        shard_bytes=args.shard_bytes,
        resize=args.resize,
        format=args.format,
        quality=args.quality,
        dedup=args.dedup,
        strict=args.strict,
        seed=args.seed,
        workers=args.workers,
    )
    left_out = {
        name: manifest.made_by[name]
        for name in ("rejected", "temporary", "duplicates", "conflicting_labels")
        if name in manifest.made_by
    }
    _tell_left_out(out, **left_out)
    passed = {"passed_over": dict(sorted(source.passed.kinds.items()))}
    facts = info(out) | left_out | passed | {"seconds": round(time.monotonic() - start, 3)}
    _print_info(facts, args.json)
    return STOPPED if "temporary" in left_out else 0


def _lies_in(out: str, source: str) -> bool:
    return os.path.isdir(source) and f"{os.path.realpath(out)}/".startswith(f"{os.path.realpath(source)}/")


def _tell_left_out(
    out: str, rejected: int, temporary: int = 0, duplicates: int = 0, conflicting_labels: int = 0
) -> None:
    if rejected:
        passing = (
            f", {temporary:,} of them perhaps for now (run the same command again, which tries these)"
            if temporary
            else ""
        )
        what = f"{counted(rejected, 'image')} cannot be read{passing}"
        print(f"{what}: see {os.path.join(out, REJECTED)}", file=sys.stderr)
    if duplicates:
        what = f"{counted(duplicates, 'image')} {verb(duplicates, 'repeats', 'repeat')} the bytes of others"
        if conflicting_labels:
            what += f", {conflicting_labels:,} of them under another label"
        print(f"{what}: see {os.path.join(out, DUPLICATES)}", file=sys.stderr)


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards index``."""
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
    _add_strict(parser)
    _add_workers(parser)
    _add_json(parser)


def run_index(args: argparse.Namespace) -> int:
    """Run ``shards index``."""
    out = args.dir if args.out is None else args.out
    made = adopt(
        args.dir, args.split, args.workers, out=args.out, label_field=args.label_field, strict=args.strict
    )
    _print_info(info(out) | {"passed_over": made.passed_over}, args.json)
    return 0


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards verify``."""
    parser.add_argument("dir", metavar="DIR", type=path, help="folder or URL of the shards")
    _add_strict(parser)
    _add_workers(parser)
    _add_json(parser)


def run_verify(args: argparse.Namespace) -> int:
    """Run ``shards verify``: 0 if all is well, 1 if there are problems."""
    found = check(args.dir, args.workers, progress=True)
    well = not found.problems and not (args.strict and found.passed.kinds)
    if args.json:
        listed = [{"shard": problem.shard, "what": problem.what} for problem in found.problems]
        facts = {"root": args.dir, "ok": well, "problems": listed, "passed_over": dict(found.passed.kinds)}
        print(json.dumps(facts))
    else:
        for problem in found.problems:
            put(f"{problem.shard}: {problem.what}", fold=False)
        if not found.problems:
            put(f"{args.dir}: all shards are as the manifest says", fold=False)
        if found.passed.kinds:
            put(found.passed.tell("member"), fold=False)
    return 0 if well else 1


def add_info_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shards info``."""
    parser.add_argument("dir", metavar="DIR", type=path, help="folder or URL of the shards")
    parser.add_argument(
        "--preview",
        metavar="FILE.png",
        type=path,
        help="draw images of each class into this file, as a contact sheet",
    )
    _add_json(parser)


def run_info(args: argparse.Namespace) -> int:
    """Run ``shards info``."""
    facts = info(args.dir)
    if args.preview is not None:
        draw_preview(args.preview, args.dir)
        facts["preview"] = args.preview
    _print_info(facts, args.json)
    return 0


def _add_strict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strict", action="store_true", help="refuse tars with anything that is passed over, as a README.md"
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=count, metavar="N", help="processes (default: one per core)")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def _print_info(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    formats = ", ".join(f"{count:,} {ext}" for ext, count in facts["extensions"].items())
    put(f"{facts['name']} in {facts['root']}: {formats}")
    splits = Sheet("split", "samples", "labelled", "shards", "MB", text=("split",))
    for split, counts in facts["splits"].items():
        numbers = (counts["samples"], counts["labelled"], counts["shards"], counts["bytes"] / 1e6)
        splits.add(split, *(f"{number:,.0f}" for number in numbers[:3]), f"{numbers[3]:,.1f}")
    splits.put()
    if len(facts["classes"]) > MANY_CLASSES:
        put(f"{len(facts['classes']):,} classes; --json lists them")
    elif facts["classes"]:
        classes = Sheet("label", "class", *facts["splits"], text=("class",))
        for entry in facts["classes"]:
            counts = (f"{entry['samples'][split]:,}" for split in facts["splits"])
            classes.add(str(entry["label"]), entry["name"], *counts)
        classes.put()
