"""``ccscale lineage table``: the id of every image at a version, as one table."""

import argparse

from ccscale.cli.arguments import add_json, add_run, count, local_path
from ccscale.printing import put, put_json
from ccscale.wording import counted

EXAMPLES = """\
examples:
  ccscale lineage table runs/photos --out ids.parquet
  ccscale lineage table runs/photos --version 3 --out before.csv

columns: data_set, shard, key, id (-1: fits no cluster; empty: undecodable), name if clusters have names,
confidence, reason (why it fits no cluster), version (which gave the image its id)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    parser.add_argument(
        "--version", metavar="V", type=count, help="the version to write (default: the current one)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=local_path, required=True, help="a .parquet or .csv file"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.clusters.lineage import open_lineage
    from ccscale.clusters.tables import write_full

    lineage = open_lineage(args.run)
    version = lineage.version(args.version)
    rows = write_full(args.out, lineage, version.number, lineage.names())
    if args.json:
        put_json({"out": str(args.out), "version": version.number, "rows": rows, **version.counts})
    else:
        put(f"{args.out}: {counted(rows, 'image')} at version {version.number}", fold=False)
    return 0
