"""``ccscale config``: prints keys, schema, recipes or a whole config."""

import argparse
import sys

from ccscale.cli.arguments import add_config
from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys
from ccscale.config.recipes import recipes
from ccscale.printing import put_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, optional=True)
    parser.add_argument(
        "--recipes", action="store_true", help="list the recipes, configs that come with ccscale"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")


def run(args: argparse.Namespace) -> int:
    if args.schema:
        put_json(Config.model_json_schema())
    elif args.recipes:
        for name, about in recipes().items():
            print(f"{name:24}{about}")
    elif args.config is not None:
        sys.stdout.write(load_config(args.config, args.overrides).to_yaml())
    else:
        for key in describe_keys():
            print(f"{key.name}  ({key.kind}; {key.default}; {key.may_change})\n    {key.description}")
    return 0
