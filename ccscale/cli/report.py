"""``ccscale report``: writes the report, and tells where."""

import argparse

from rich.filesize import decimal

from ccscale.cli.arguments import add_clusters, add_device, add_run, local_path, number, path
from ccscale.printing import put, put_json
from ccscale.progress import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--compare", metavar="RUN2", type=path, help="another run of the same images, shown side by side"
    )
    parser.add_argument("--out", metavar="FILE", type=local_path, help="the file (default: RUN/report.html)")
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=path,
        help="the folder that the images came from: pictures then show full paths and link to the files",
    )
    parser.add_argument(
        "--pictures",
        metavar="N",
        type=number,
        default=8_000,
        help="number of pictures in the file, besides 24 for each cluster (default: 8000, about 10 MB)",
    )
    add_clusters(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.report.report import report_run

    options = {
        "device": args.device,
        "workers": args.workers,
        "clusters": args.clusters,
        "pictures": args.pictures,
        "images": args.images,
    }
    result = report_run(args.run, args.compare, args.out, **options)
    if args.json:
        put_json(result)
    else:
        put(f"{result['out']}: {decimal(result['bytes'])}, open it in a browser", fold=False)
    return 0
