"""``ccscale config``: prints keys, schema, recipes or a whole config, and draws its views."""

import argparse
import sys

from ccscale.cli.arguments import add_config, path
from ccscale.config import Config, strong_view, weak_view
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys
from ccscale.config.recipes import recipes
from ccscale.errors import InputError
from ccscale.printing import put_json
from ccscale.progress import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, optional=True)
    parser.add_argument(
        "--recipes", action="store_true", help="list the recipes: the configs that come with ccscale"
    )
    parser.add_argument(
        "--views",
        metavar="FILE.png",
        type=path,
        help="draw some images as training with this config will see them into this file: unchanged, as random "
        "views, and as the weak and strong views of self-labelling",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")


def run(args: argparse.Namespace) -> int:
    if args.schema:
        put_json(Config.model_json_schema())
    elif args.recipes:
        for name, about in recipes().items():
            print(f"{name:24}{about}")
    elif args.config is not None:
        config = load_config(args.config, args.overrides)
        if args.views is not None:
            draw_views_of(config, args.views)
        sys.stdout.write(config.to_yaml())
    elif args.views is not None:
        raise InputError(
            "--views draws the views of a config: give one, as in `ccscale config CONFIG --views FILE.png`"
        )
    else:
        for key in describe_keys():
            print(f"{key.name}  ({key.kind}; {key.default}; {key.may_change})\n    {key.description}")
    return 0


def draw_views_of(config: Config, path: str) -> None:
    """Draw what training with a config will see of some images of its shards."""
    from ccscale.data.images.channels import Channels
    from ccscale.data.shards.manifest import Manifest
    from ccscale.data.shards.pixels import follow_pixels
    from ccscale.draw.view_sheet import Seen, draw_view_sheet

    if config.data.shards is None:
        raise InputError(
            f"a run on a feature store ({config.data.features}) computes no views: --views needs a config "
            "with data.shards"
        )
    views = config.views
    seen = [
        Seen(("as they are",), (views.plain,), 1),
        Seen(("view a", "view b"), views.each(2), 3),
    ]
    if (boost := config.stages.boost).epochs:
        settings = weak_view(views, boost.weak), strong_view(views, boost.strong)
        seen.append(Seen(("weak view", "strong view"), settings, 3))
    manifest = Manifest.load(config.data.shards, config.data.retry_seconds)
    channels = Channels.of(follow_pixels(config.model, manifest))
    draw_view_sheet(path, manifest, config.data.splits, config.seed, seen, channels)
    say(f"wrote the views to {path}")
