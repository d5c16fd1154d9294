"""``ccscale name``: names clusters, and lists what they are called."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_clusters, add_json, add_run, local_path, number
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import say_loading
from ccscale.wording import counted

EXAMPLES = """\
examples:
  ccscale name runs/photos                            # what the clusters are called
  ccscale name runs/photos 3=cats 5='red cars'        # two names
  ccscale name runs/photos --join 8=3 --junk 7        # cluster 8 is called as 3 is; 7 is of no use
  ccscale name runs/photos 3=                         # takes back all that was said of cluster 3
  ccscale name runs/photos --file names.json          # what was said in the report's page, and saved there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    parser.add_argument(
        "names",
        metavar="CLUSTER=NAME",
        nargs="*",
        type=name,
        help="a name for a cluster; an empty one removes its name",
    )
    parser.add_argument(
        "--join",
        metavar="CLUSTER=INTO",
        nargs="+",
        type=pair,
        action="extend",
        default=[],
        help="give a cluster the name of another one",
    )
    parser.add_argument(
        "--junk",
        metavar="CLUSTER",
        nargs="+",
        type=number,
        action="extend",
        default=[],
        help="mark a cluster as useless: it is called 'junk'",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=local_path,
        help="names saved from the report; they replace all earlier names",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="accept that file even if its names belong to the clusters of another checkpoint",
    )
    parser.add_argument("--list", action="store_true", help="list the names, after any changes")
    add_clusters(parser)
    add_json(parser)


def name(text: str) -> tuple[int, str]:
    """Read a cluster and its name."""
    cluster, found, called = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a cluster: write 3=cats")
    return number(cluster), called


def pair(text: str) -> tuple[int, int]:
    """Read a cluster and the one that it is joined to."""
    cluster, found, into = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} does not say what is joined to what: write 8=3")
    return number(cluster), number(into)


def run(args: argparse.Namespace) -> int:
    say_loading()
    from ccscale.clusters.lineage import is_living, open_lineage
    from ccscale.evaluate.naming import Changes, name_run

    changes = Changes(dict(args.names), dict(args.join), args.junk, args.file, args.anyway)
    living = is_living(args.run)
    found = open_lineage(args.run).say(changes) if living else name_run(args.run, changes, args.clusters)
    said = {} if found.by_hand is None else found.by_hand.as_json()
    names = found.by_number()
    if args.json:
        put_json({"of": "ids" if living else "clusters", "names": names, "by_hand": said})
        return 0
    if changes:
        put(
            f"names of {args.run}: something is said of {counted(len(said), 'cluster')} of {len(names):,}",
            fold=False,
        )
    if args.list or not changes:
        table = TextTable("id" if living else "cluster", "name", "by", text=("name", "by"))
        for cluster, called in names.items():
            table.add(str(cluster), called or "–", _by(said.get(str(cluster)), called))
        table.put()
    return 0


def _by(said: dict[str, Any] | None, called: str | None) -> str:
    """Say where a name comes from."""
    if said is None:
        return "" if called is None else "labels"
    return f"joined to {said['into']}" if "into" in said else "hand"
