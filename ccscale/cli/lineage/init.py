"""``ccscale lineage init``: founds living clusters of a run."""

import argparse

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_device, add_run, add_split
from ccscale.printing import put, put_json
from ccscale.progress import loading
from ccscale.wording import counted

EXAMPLES = """\
examples:
  ccscale lineage init runs/photos                    # its clusters become version 1
  ccscale update runs/photos --shards data/today      # then new images, every day
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    add_checkpoint(parser)
    add_clusters(parser)
    add_split(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.clusters.init import found_clusters

    lineage = found_clusters(
        args.run,
        splits=args.split,
        checkpoint=args.checkpoint,
        clusters=args.clusters,
        device=args.device,
        workers=args.workers,
    )
    if lineage is None:
        return 0
    from ccscale.clusters.description import describe_version

    facts = describe_version(lineage)
    if args.json:
        put_json(facts)
    else:
        clusters = counted(len(facts["clusters"]), "cluster")
        put(
            f"{lineage.folder}: version {facts['version']}, {clusters} of {counted(facts['images'], 'image')}",
            fold=False,
        )
    return 0
