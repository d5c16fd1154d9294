"""``ccscale update``: takes new images into living clusters."""

import argparse

from ccscale.cli.arguments import (
    add_device,
    add_follow,
    add_overrides,
    add_run,
    add_split,
    amount,
    path,
)
from ccscale.cli.lineage.show import show_made
from ccscale.errors import InputError, did_you_mean
from ccscale.exit_codes import DRIFT, STOPPED
from ccscale.preempt import SIGNALS, stop_on_signal
from ccscale.process_exit import exit_at_once
from ccscale.progress import loading, say
from ccscale.rank_environment import RankEnvironment

KINDS = {"births": "birth", "merges": "merge", "splits": "split"}
EXAMPLES = """\
examples:
  ccscale lineage init runs/photos                                  # once: version 1
  ccscale shards make folder ~/photos/today data/today
  ccscale update runs/photos --shards data/today                    # then `ccscale lineage show runs/photos`
  ccscale update runs/photos --shards data/today --apply births     # accept births at once
  ccscale update runs/photos --shards data/stream --follow          # shards as they appear
  ccscale update runs/photos --features stores/today                # a store made by the run's own backbone
  ccscale update runs/photos --reassign                             # all images, with the current clusters
  ccscale update runs/photos --retrain train.epochs=20              # train the heads further on old and new images
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--shards", metavar="NEW", type=path, help="shards of new images, with or without labels"
    )
    which.add_argument(
        "--features",
        metavar="STORE",
        type=path,
        help="a feature store of new images, made with the same backbone",
    )
    which.add_argument(
        "--retrain",
        action="store_true",
        help="continue training the heads on remembered old images and on new ones; images keep their ids",
    )
    parser.add_argument(
        "--most-changed",
        metavar="SHARE",
        type=amount,
        help="with --retrain: largest share of remembered images whose id the new network may change (default: "
        "0.05); if it is exceeded, nothing changes",
    )
    parser.add_argument(
        "--apply",
        metavar="KINDS",
        type=kinds,
        default=(),
        help="accept proposals at once: births, merges, splits, or several of these separated by commas",
    )
    parser.add_argument(
        "--reassign",
        action="store_true",
        help="reassign all images with the resulting clusters: ids of earlier images may change",
    )
    add_follow(parser)
    parser.add_argument(
        "--fail-on-drift",
        action="store_true",
        help=f"exit with code {DRIFT} if new images have drifted",
    )
    add_split(parser)
    add_overrides(parser)
    add_device(parser)


def kinds(text: str) -> tuple[str, ...]:
    """Read the kinds of proposals that are accepted at once."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(
                f"{name!r} is not one of {', '.join(KINDS)}{did_you_mean(name, KINDS)}"
            )
    return tuple(KINDS[name] for name in names)


def run(args: argparse.Namespace) -> int:
    if args.retrain:
        return _retrain(args)
    if args.overrides or args.most_changed is not None:
        what = args.overrides[0] if args.overrides else "--most-changed"
        raise InputError(f"{what} goes with --retrain")
    if args.shards is None and args.features is None and not (args.apply or args.reassign):
        raise InputError("give the new images: --shards NEW or --features STORE")
    with stop_on_signal(SIGNALS if args.follow else (), exit_at_once) as request:
        with loading():
            from ccscale.clusters.update import UpdateOptions, alarms_of, update_run

        asked = UpdateOptions(
            args.shards, args.features, args.split, args.follow, args.idle, args.apply, args.reassign
        )
        made = update_run(args.run, asked, device=args.device, workers=args.workers, request=request)
    if RankEnvironment.read().rank:
        return 0
    alarms = alarms_of(args.run, made)
    for sentence in alarms:
        say(f"drift: {sentence}")
    show_made(args.run, made, args.json)
    return DRIFT if alarms and args.fail_on_drift else 0


def _retrain(args: argparse.Namespace) -> int:
    """Train the heads on."""
    if args.apply or args.reassign or args.follow or args.split:
        raise InputError(
            "--retrain cannot be combined with these: add new images first, and decide on proposals "
            "afterwards"
        )
    with stop_on_signal(leave=exit_at_once) as request:
        with request.at_once(), loading():
            from ccscale.clusters.retraining import retrain

        bound = {} if args.most_changed is None else {"most_changed": args.most_changed}
        made = retrain(args.run, args.overrides, device=args.device, request=request, **bound)
    if RankEnvironment.read().rank == 0 and made is not None:
        show_made(args.run, [made], args.json)
    return STOPPED if made is None else 0
