"""``ccscale shards make``: writes shards, and tells what they hold and what was left out."""

import argparse
import os
import sys
import time

from ccscale.cli.arguments import add_processes, byte_size, count, number, numbers, path
from ccscale.cli.shards.info import show_info
from ccscale.data.conversion.duplicates import DUPLICATES
from ccscale.data.conversion.preparation import FORMATS
from ccscale.data.conversion.rejected import REJECTED
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.verify import info
from ccscale.data.sources.kinds import KINDS, open_source
from ccscale.errors import InputError
from ccscale.exit_codes import STOPPED
from ccscale.wording import agree, counted

# Options that go on to the kind of source, where they are given.
SOURCE_OPTIONS = ("split", "labels", "classes", "coarse", "path_column", "label_column", "key_column")

EXAMPLES = """\
examples:
  ccscale shards make folder ~/photos data/photos
  ccscale shards make folder ~/photos data/photos --resize 256 --format jpg --dedup
  ccscale shards make imagenet ILSVRC2012_img_train.tar data/imagenet-10 --classes imagenet-10
  ccscale shards make folder ~/cells data/cells --channels 5
  ccscale shards make table photos.parquet data/photos --path-column file

Run the same command again to continue where it stopped; it does nothing if all is done. Exit code 75: the shards
are complete, but some images were temporarily unavailable (a server error, no answer): the same command tries these
again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s KIND [SOURCE] OUT [options]"
    width = max(map(len, KINDS))
    kinds = "\n".join(f"  {name:{width}}  {kind.about}" for name, kind in KINDS.items())
    parser.epilog = f"kinds:\n{kinds}\n\n{EXAMPLES}"
    parser.add_argument("kind", metavar="KIND", help="kind of source, see below")
    parser.add_argument(
        "paths",
        nargs="+",
        type=path,
        metavar="[SOURCE] OUT",
        help="the images (not for digits), and the folder for the shards",
    )
    which = parser.add_argument_group("which images")
    which.add_argument("--split", metavar="NAME", help="treat everything as one split with this name")
    which.add_argument(
        "--no-labels",
        dest="labels",
        action="store_const",
        const=False,
        help="do not take sub-folders as classes",
    )
    which.add_argument(
        "--classes",
        metavar="TEXT",
        type=path,
        help="only these classes: names with commas, a file, or a known list",
    )
    which.add_argument(
        "--coarse", action="store_const", const=True, help="use superclasses as labels (CIFAR-100)"
    )
    which.add_argument("--path-column", metavar="NAME", help="a table's column of paths or URLs")
    which.add_argument("--label-column", metavar="NAME", help="a table's column of labels")
    which.add_argument("--key-column", metavar="NAME", help="a table's column of keys (default: paths)")
    which.add_argument(
        "--dedup", action="store_true", help=f"leave out identical files; they are listed in {DUPLICATES}"
    )
    which.add_argument(
        "--strict",
        action="store_true",
        help="refuse a source with files that would be skipped, or whose keys would differ from their names",
    )
    how = parser.add_argument_group("how they are stored (default: unchanged bytes)")
    how.add_argument(
        "--resize",
        type=count,
        metavar="PIXELS",
        help="reduce the short side to this; images are never enlarged",
    )
    how.add_argument("--format", metavar="FORMAT", help=f"store all images as {', '.join(FORMATS)}")
    how.add_argument(
        "--quality",
        type=int,
        default=95,
        metavar="1-100",
        help="JPEG or WebP quality of re-encoded images (default: %(default)s)",
    )
    how.add_argument(
        "--channels",
        type=count,
        metavar="C",
        help="images with C channels of 8-bit, 16-bit or floating-point values, kept as stored; the "
        "numbers of each channel are measured",
    )
    how.add_argument(
        "--shown",
        type=numbers,
        metavar="R,G,B",
        help="with --channels: channels shown as red, green and blue, counted from 0 (default: 0,1,2)",
    )
    shards = parser.add_argument_group("the shards")
    shards.add_argument(
        "--shard-samples",
        type=count,
        metavar="N",
        help="maximum number of samples in a shard (default: 10000)",
    )
    shards.add_argument(
        "--shard-bytes",
        type=byte_size,
        default="256MiB",
        metavar="SIZE",
        help="target size of a shard, such as 256MB or 1GiB (default: %(default)s)",
    )
    shards.add_argument(
        "--seed", type=number, default=0, help="seed for the order of samples (default: %(default)s)"
    )
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    *before, out = args.paths
    if len(before) > 1:
        raise InputError(f"make needs KIND SOURCE OUT; {' '.join(args.paths)!r} are {len(args.paths)} paths")
    if before and _lies_in(out, before[0]):
        raise InputError(
            f"{out} is inside {before[0]}, the source of the images: choose a folder outside it for the "
            "shards"
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
        channels=args.channels,
        shown=args.shown,
    )
    left_out = {
        name: manifest.made_by[name]
        for name in ("rejected", "temporary", "duplicates", "conflicting_labels")
        if name in manifest.made_by
    }
    _tell_left_out(out, **left_out)
    passed = {"passed_over": dict(sorted(source.passed.kinds.items()))}
    facts = info(out) | left_out | passed | {"seconds": round(time.monotonic() - start, 3)}
    show_info(facts, args.json)
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
        what = f"{counted(duplicates, 'image')} {agree(duplicates, 'repeats', 'repeat')} the bytes of others"
        if conflicting_labels:
            what += f", {conflicting_labels:,} of them under another label"
        print(f"{what}: see {os.path.join(out, DUPLICATES)}", file=sys.stderr)
