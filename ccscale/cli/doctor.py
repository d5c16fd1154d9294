"""``ccscale doctor``: reports what works on this machine, what does not, and what to do about it."""

import argparse

from ccscale.cli.arguments import add_json, count, path
from ccscale.exit_codes import FAULT
from ccscale.printing import put, put_json
from ccscale.progress import loading

MARKS = {"good": "ok   ", "note": "note ", "wrong": "WRONG"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", metavar="DIR", type=path, default="runs", help="where runs will be kept (default: runs)"
    )
    parser.add_argument("--shards", metavar="DIR", type=path, help="shards to check, a folder or a URL")
    parser.add_argument(
        "--ranks", metavar="N", type=count, default=2, help="number of processes to connect (default: 2)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.doctor.doctor import examine

    findings = []
    for finding in examine(args.run, args.shards, args.ranks):
        findings.append(finding)
        if not args.json:
            put(f"{MARKS[finding.state]} {finding.what}: {finding.says}", fold=False)
            if finding.remedy:
                put(f"      {finding.remedy}", fold=False)
    wrong = [finding.what for finding in findings if finding.state == "wrong"]
    if args.json:
        put_json({"ok": not wrong, "findings": [finding.as_json() for finding in findings]})
    else:
        put(f"training cannot run here: {', '.join(wrong)}" if wrong else "training can run here", fold=False)
    return FAULT if wrong else 0
