"""``ccscale export``: copies a network, and tells how to load it."""

import argparse

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_json, add_run, local_path
from ccscale.printing import put, put_json
from ccscale.progress import say, say_loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", metavar="OUT", type=local_path, help="a new folder")
    add_checkpoint(parser)
    add_clusters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    say_loading()
    from ccscale.evaluate import cluster_names
    from ccscale.evaluate.basis import weights_of
    from ccscale.evaluate.heads import serving_head
    from ccscale.evaluate.notes import no_choice
    from ccscale.evaluate.opened import run_and_checkpoint
    from ccscale.evaluate.sureness import FILE, Sureness
    from ccscale.model.export import copy_export

    config, found = run_and_checkpoint(args.run, args.checkpoint)
    serves = serving_head(config.model, found.heads, args.clusters)
    of = weights_of(found), serves
    sureness, names = Sureness.load(config.run_folder), cluster_names.ClusterNames.load(config.run_folder)
    beside = {}
    if sureness is not None and sureness.is_of(*of):
        beside[FILE] = sureness.to_bytes()
    if names is not None and names.is_of(*of):
        beside[cluster_names.FILE] = names.to_bytes()
    copy_export(found.path, args.out, found.heads, serves, beside)
    for sentence in () if found.heads else no_choice(config.model):
        say(f"note: {sentence}")
    if args.json:
        put_json({"out": str(args.out), "step": found.step})
    else:
        load = f"load it with ccscale.load('{args.out}')"
        put(f"{args.out}: the network of step {found.step}; {load}", fold=False)
    return 0
