"""``ccscale push``: puts an exported network on the Hugging Face Hub, and tells how to load it."""

import argparse
import json

from ccscale.cli.arguments import add_json, local_path
from ccscale.printing import put, put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="OUT", type=local_path, help="an exported network (`ccscale export`)"
    )
    parser.add_argument("repo", metavar="REPO", help="OWNER/NAME; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="create the repository as a private one")
    parser.add_argument("--message", metavar="TEXT", help="commit message")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ccscale.model.hub import PREFIX, push

    pushed, repo = push(args.folder, args.repo, args.private, args.message), args.repo.removeprefix(PREFIX)
    if args.json:
        put_json({"repo": repo, "commit": pushed.commit, "url": pushed.url})
        return 0
    put(f"{pushed.url}", fold=False)
    if json.loads((args.folder / "config.json").read_text(encoding="utf-8")).get("format") == "ccscale-model":
        put(f"load it with ccscale.load('{PREFIX}{repo}@{pushed.commit}')", fold=False)
    return 0
