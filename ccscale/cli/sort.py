"""``ccscale sort``: puts images into folders, and tells how many each has."""

import argparse
from typing import Any

from ccscale.cli.arguments import (
    add_checkpoint,
    add_clusters,
    add_device,
    add_images,
    add_network,
    add_reject,
    add_split,
    at_hand,
    local_path,
)
from ccscale.cli.results import show_or_refuse
from ccscale.printing import TextTable, put
from ccscale.progress import loading

EXAMPLES = """\
examples:
  ccscale sort runs/photos --images ~/photos --out sorted               # links: no image is moved or copied
  ccscale sort runs/photos --shards data/photos --out sorted --as copies
  ccscale sort runs/photos --images ~/photos --out coco --as coco       # for another tool
"""
HINTS = {
    "coco": "{out}/coco.json: an annotation an image",
    "label-studio": "{out}/tasks.json to import, {out}/label-studio.xml as the labelling interface",
    "fiftyone": "fiftyone.Dataset.from_dir(dataset_dir={out!r}, data_path='data.json', label_field='cluster', "
    "dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)",
    "datasets": "datasets.load_dataset({out!r})",
}
"""What comes of the formats of `evaluate.annotation_formats`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_network(parser)
    add_images(parser, ")")
    parser.add_argument("--out", metavar="DIR", type=local_path, required=True, help="a new folder")
    parser.add_argument(
        "--as",
        dest="how",
        choices=("links", "copies", "csv", *HINTS),
        help="links to the files (default for --images), copies (default for --shards), or only DIR/clusters.csv; "
        "or the format of another tool: COCO JSON, Label Studio tasks, FiftyOne, Hugging Face datasets",
    )
    add_reject(parser, ", in the folder `unassigned`")
    add_checkpoint(parser)
    add_clusters(parser)
    add_split(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.sorting import How, ImagesToSort, sort_run

    how: How = args.how or ("links" if args.images else "copies")
    result = sort_run(
        at_hand(args.run),
        ImagesToSort(args.shards, args.split, args.images),
        args.out,
        how,
        reject=args.reject,
        device=args.device,
        workers=args.workers,
        checkpoint=args.checkpoint,
        clusters=args.clusters,
    )
    return show_or_refuse(result | {"as": how}, args.json, _show)


def _show(result: dict[str, Any]) -> None:
    table = TextTable("folder", "images", text=("folder",))
    for name, images in result["folders"].items():
        table.add(name, f"{images:,}")
    table.put()
    put(f"{result['out']}/clusters.csv: where each image is", fold=False)
    if result["as"] in HINTS:
        put(HINTS[result["as"]].format(out=result["out"]), fold=False)
