"""``ccscale cluster``: clusters a folder of images, and tells what was found and where."""

import argparse
from pathlib import Path
from typing import Any

from ccscale.cli.arguments import (
    add_device_alone,
    add_json,
    add_overrides,
    count,
    local_path,
    number,
    path,
    several,
)
from ccscale.cli.results import NAMES, clusters_table, scores_table
from ccscale.errors import InputError
from ccscale.exit_codes import STOPPED
from ccscale.printing import put, put_json
from ccscale.progress import loading
from ccscale.rank_environment import RankEnvironment
from ccscale.wording import counted

EXAMPLES = """\
examples:
  ccscale cluster ~/photos
  ccscale cluster ~/photos --clusters 20 --out clusters/photos
  ccscale cluster ~/cells --channels 5
  ccscale cluster ~/photos --backbone convnext_tiny.in12k_ft_in1k --size 224

Run the same command again to continue where it stopped, or to add new files.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("folder", metavar="FOLDER", type=local_path, help="a folder of images, at any depth")
    parser.add_argument(
        "--clusters",
        type=several,
        metavar="K",
        help="number of clusters (default: estimated, as by `ccscale how-many`)",
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="DIR",
        help="folder for everything it writes (default: NAME-clusters here, with the folder's NAME)",
    )
    parser.add_argument(
        "--labels", action="store_true", help="sub-folders are classes, used only to score the clusters"
    )
    parser.add_argument(
        "--channels",
        type=count,
        metavar="C",
        help="images with C channels of 8-bit, 16-bit or floating-point values, kept as stored (default: "
        "detected for TIFFs that are neither grey nor RGB)",
    )
    which = parser.add_argument_group("backbone (default: the best one available)")
    which.add_argument("--backbone", metavar="NAME", help="a timm model, with its pretrained weights")
    which.add_argument(
        "--weights", metavar="FILE", type=path, help="weights for the backbone, as in model.weights"
    )
    which.add_argument("--size", type=count, metavar="PIXELS", help="size of the images for the backbone")
    add_device_alone(parser)
    parser.add_argument("--workers", type=number, metavar="N", help="processes that read images")
    add_overrides(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if RankEnvironment.read().world > 1:
        raise InputError(
            "`ccscale cluster` runs in one process: for several, use `shards make`, `embed` and `train`"
        ).told_by(0)
    if args.weights and not args.backbone:
        raise InputError("--weights also needs --backbone, the timm model that they belong to")
    out = args.out or Path(f"{args.folder.resolve().name or 'images'}-clusters")
    if not args.folder.is_dir():
        raise InputError(f"there is no folder {args.folder}; name one with images in it")
    if out.resolve().is_relative_to(args.folder.resolve()):
        raise InputError(f"{out} is inside {args.folder}, the source of the images: choose an --out outside")
    with loading():
        from ccscale.own_images.stages import ClusterRequest, cluster_folder

    given = {
        name: getattr(args, name)
        for name in ("clusters", "labels", "channels", "backbone", "weights", "size")
    }
    result = cluster_folder(
        ClusterRequest(
            args.folder, out, **given, device=args.device, workers=args.workers, overrides=args.overrides
        )
    )
    if result is None:
        return STOPPED
    put_json(result) if args.json else _show(result)
    return 0


def _show(result: dict[str, Any]) -> None:
    for sentence in result["warnings"]:
        put(f"warning: {sentence}")
    clusters_table(result).put()
    if "scores" in result:
        scores_table({"against the folders": result["scores"]}, NAMES).put()
    what = f"{counted(result['images'], 'image')} in {counted(result['clusters'], 'cluster')}"
    put(f"{what}; features of {result['backbone']} at {result['size']} pixels")
    if result["rejected"]:
        files = counted(result["rejected"], "file")
        put(f"{files} cannot be read, for reasons listed in {result['rejected_list']}", fold=False)
    put(f"table with the cluster of every image: {result['table']}", fold=False)
    put(f"report, to open in a browser: {result['report']}", fold=False)
