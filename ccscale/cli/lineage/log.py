"""``ccscale lineage log``: what became of a run's clusters, version by version."""

import argparse
from typing import Any

from ccscale.cli.arguments import add_json, add_run
from ccscale.printing import put, put_json
from ccscale.wording import agree, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--all", action="store_true", help="include versions that were rolled back")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.clusters.description import describe_versions
    from ccscale.clusters.lineage import open_lineage

    versions = describe_versions(open_lineage(args.run), args.all)
    if args.json:
        put_json({"run": args.run, "versions": versions})
    else:
        for version in versions:
            show_version(version)
    return 0


def show_version(facts: dict[str, Any]) -> None:
    """Print a version, a line for each thing that came with it."""
    mark = " (current)" if facts.get("current") else " (rolled back)" if facts.get("rolled_back") else ""
    put(f"version {facts['version']}{mark}, {facts['when']}: {facts['why']}", fold=False)
    if facts["new"]:
        none = f", {facts['new_unassigned']:,} without a cluster" if facts["new_unassigned"] else ""
        put(f"  {counted(facts['new'], 'image')} of {', '.join(facts['data'])}{none}")
    for event in facts["events"]:
        put(f"  {_event(event)}: {event['sentence']}")
    if facts["changed"]:
        put(f"  {counted(facts['changed'], 'image')} {agree(facts['changed'], 'has', 'have')} another id")
    for place, alarm in facts["alarms"].items():
        put(f"  drift in {place}: {alarm}")
    if facts.get("current") and facts["open"]:
        put(f"  {counted(facts['open'], 'proposal')} open: see `ccscale lineage show`")


def _event(event: dict[str, Any]) -> str:
    """Return what happened to which clusters."""
    if event["kind"] == "founded":
        return "founded"
    of = {"split": " from ", "merged": " into "}.get(event["kind"], "")
    ids, others = (", ".join(map(str, event[name])) for name in ("ids", "others"))
    return f"{event['kind']} {ids}{of}{others if of else ''}"
