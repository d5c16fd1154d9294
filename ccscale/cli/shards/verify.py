"""``ccscale shards verify``: tells the problems."""

import argparse

from ccscale.cli.arguments import add_processes, add_strict, path
from ccscale.data.shards.verify import verify
from ccscale.exit_codes import FAULT
from ccscale.printing import put, put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=path, help="folder or URL of the shards")
    add_strict(parser)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    found = verify(args.dir, args.workers, progress=True)
    well = not found.problems and not (args.strict and found.passed.kinds)
    if args.json:
        listed = [{"shard": problem.shard, "what": problem.what} for problem in found.problems]
        put_json({"root": args.dir, "ok": well, "problems": listed, "passed_over": dict(found.passed.kinds)})
    else:
        for problem in found.problems:
            put(f"{problem.shard}: {problem.what}", fold=False)
        if not found.problems:
            put(f"{args.dir}: all shards match the manifest", fold=False)
        if found.passed.kinds:
            put(found.passed.tell("member"), fold=False)
    return 0 if well else FAULT
