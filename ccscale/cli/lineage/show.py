"""``ccscale lineage show``: a version of a run's clusters, and what it proposes."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_json, add_run, count
from ccscale.cli.lineage.log import show_version
from ccscale.printing import TextTable, put, put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--version", metavar="V", type=count, help="the version to show (default: the current one)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.clusters.description import describe_version
    from ccscale.clusters.lineage import open_lineage

    facts = describe_version(open_lineage(args.run), args.version)
    put_json(facts) if args.json else _show(facts)
    return 0


def _show(facts: dict[str, Any]) -> None:
    show_version(facts)
    table = TextTable("id", "name", "images", "from version", text=("name",))
    for one in facts["clusters"]:
        table.add(str(one["id"]), one["name"] or "", f"{one['images']:,}", str(one["version"]))
    table.put()
    without = f"{facts['unassigned']:,} without a cluster"
    put(
        f"{facts['images']:,} images, {without}"
        + (f", {facts['bad']:,} without features" if facts["bad"] else "")
    )
    show_proposals(facts["proposals"], facts["path"])


def show_proposals(proposals: list[dict[str, Any]], run: str) -> None:
    """Print the proposals that are open, how to accept them, and how many were refused."""
    still = [one for one in proposals if one["refused"] is None]
    for one in still:
        put(f"{one['id']}, a {one['kind']}: {one['sentence']}")
        if one["picture"]:
            put(f"  {one['picture']}", fold=False)
    if still:
        ids = " ".join(one["id"] for one in still[:3])
        put(f"accept with `ccscale lineage accept {run} {ids}`, or `… refuse …`", fold=False)
    if refused := [one["id"] for one in proposals if one["refused"] is not None]:
        put(f"refused: {', '.join(refused)}")


def show_made(run: str, made: list[int], as_json: bool) -> int:
    """Print the versions that a command has made, and what the last one proposes; on one rank. Returns 0."""
    from ccscale.clusters.description import describe_version, describe_versions
    from ccscale.clusters.lineage import open_lineage

    lineage = open_lineage(run)
    versions = [one for one in describe_versions(lineage) if one["version"] in made]
    facts = describe_version(lineage)
    if as_json:
        names = ("version", "images", "assigned", "unassigned", "bad", "proposals")
        put_json({"versions": versions, **{name: facts[name] for name in names}})
    else:
        for version in versions:
            show_version(version)
        if not versions:
            put(f"version {facts['version']} stays the current one")
        show_proposals(facts["proposals"], facts["path"])
    return 0
