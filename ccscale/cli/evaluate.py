"""``ccscale evaluate``: tells the scores, and notes on the data."""

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_device, add_run, add_split, path
from ccscale.cli.results import (
    NAMES,
    PURITY,
    SHOWN,
    clusters_table,
    figure,
    scores_table,
    show_advice,
    show_or_refuse,
)
from ccscale.evaluate.notes import unscored
from ccscale.printing import TextTable, put
from ccscale.progress import loading
from ccscale.wording import agree, counted

SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # of images that are answered

Rows = Sequence[Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--shards", metavar="DIR", type=path, help="a data set other than the run's")
    parser.add_argument(
        "--no-probes",
        "--no-k-means",
        dest="probes",
        action="store_false",
        help="skip k-means on the features and nearest neighbours",
    )
    parser.add_argument(
        "--neighbours",
        metavar="SPLIT",
        help="search nearest neighbours in this split (default: among the evaluated images)",
    )
    parser.add_argument(
        "--merge",
        nargs="?",
        const="backbone",
        choices=("backbone", "instance"),
        help="merge clusters bottom-up by these features (default: backbone); writes merge.json and merge.png",
    )
    parser.add_argument(
        "--how-many",
        nargs="?",
        const="backbone",
        choices=("backbone", "instance"),
        help="estimate the number of clusters from these features (default: backbone); writes how-many.json, .png",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=path,
        help="a few labels of the run's images (.csv or .parquet: key, class), to name and calibrate clusters",
    )
    add_checkpoint(parser)
    add_clusters(parser)
    add_split(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.evaluate.evaluate import evaluate_run

    result = evaluate_run(
        args.run,
        args.shards,
        args.split,
        probe=args.probes,
        neighbours=args.neighbours,
        merge=args.merge,
        how_many=args.how_many,
        device=args.device,
        workers=args.workers,
        checkpoint=args.checkpoint,
        clusters=args.clusters,
        labels=args.labels,
    )
    return show_or_refuse(result, args.json, _show)


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.evaluate.evaluate_run` found."""
    splits = ", ".join(result["splits"])
    put(f"{counted(result['images'], 'image')} of {result['shards']} ({splits}), step {result['step']}")
    used = result["clusters"] - result["empty"]
    _used(result, used)
    _stability(result["stability"])
    for sentence in result["warnings"]:
        put(f"warning: {sentence}")
    if "heads" in result:
        by = "by its neighbours' kappa" if "kappa" in result["heads"][0] else "by loss and stability"
        put(f"head {result['head']} is used, chosen {by}; all heads:")
        _heads(result["heads"]).put()
    clusters_table(result).put()
    if result["labelled"]:
        _scored(result)
    else:
        put(unscored(result["images"], len(result["undecodable"]), result["labels"]))
    if "given" in result:
        _named(result)
    if "trust" in result:
        _trusted(result["trust"])
    if "cuts" in result:
        put("merged clusters, the most similar first:")
        _cuts(result["cuts"]).put()
        put(f"merge tree: {result['dendrogram']}", fold=False)
    if (advice := result.get("how_many")) is not None:
        show_advice(advice)
        if "cuts" in result and advice["seen"] and advice["clusters"] < used:
            put(f"to merge to that number: `ccscale predict` with `--merged {advice['clusters']}`")


def _used(result: dict[str, Any], used: int) -> None:
    """Print how evenly images are spread over the clusters."""
    put(
        f"{used:,} of {counted(result['clusters'], 'cluster')} {agree(used, 'is', 'are')} used, as evenly as "
        f"{result['effective_clusters']:.1f} equal ones (entropy {result['entropy']:.3f}); the largest holds "
        f"{result['largest']:.1%}; mean confidence {result['confidence']:.3f}; information "
        f"{result['information']:.3f} of at most {math.log(result['clusters']):.3f} nats"
    )


def _stability(stability: dict[str, Any]) -> None:
    """Print how often two views of an image are in one cluster."""
    if not stability["views"]:
        return
    kinds = {"neighbours": "an image and its neighbour", "both": "views of an image and its neighbour"}
    put(
        f"{kinds.get(stability.get('of', ''), 'two views of an image')} are in the same cluster for "
        f"{stability['agreement']:.1%} of {counted(stability['views'], 'image')}, {stability['chance']:.1%} by "
        f"chance: stability {stability['stability']:.3f}"
    )


def _scored(result: dict[str, Any]) -> None:
    """Print scores against the labels: of the clusters, and of the features."""
    titles = {
        "k_means": "k-means on features",
        "k_means_instance": "k-means on embeddings",
        "knn": "nearest neighbours",
    }
    rows = {"cluster head": result} | {title: result[key] for key, title in titles.items() if key in result}
    put(f"against {counted(result['labelled'], 'label')} (ACC: one-to-one matching; purity: many-to-one):")
    scores_table(rows, NAMES | PURITY).put()
    if (probed := result.get("probed", result["labelled"])) < result["labelled"]:
        put(f"k-means and nearest neighbours: on {counted(probed, 'image')}, drawn by the seed")


def _named(result: dict[str, Any]) -> None:
    """Print what given labels tell."""
    given = result["given"]
    put(
        f"{counted(given['images'], 'label')} of {counted(len(given['classes']), 'class', 'classes')} given: "
        f"{given['purity']:.1%} of these images have the class that their cluster is named after, "
        f"{given['left_out']:.1%} if each is left out of the naming; by these labels "
        f"ACC {given['acc']:.3f}, NMI {given['nmi']:.3f}, ARI {given['ari']:.3f}"
    )


def _trusted(trust: dict[str, Any]) -> None:
    """Print how far confidence can be trusted."""
    calibrated = f", {trust['ece_calibrated']:.3f} once calibrated" if "ece_calibrated" in trust else ""
    put(f"confidence is off by {trust['ece']:.3f} (expected calibration error){calibrated}")
    put(f"accuracy on the most confident part of {counted(trust['images'], 'image')}:")
    shown = [trust["coverage"].index(share) for share in SHARES]
    table = TextTable("answered", *(f"{share:.0%}" for share in SHARES), text=("answered",))
    table.add("accuracy", *(f"{trust['accuracy'][place]:.3f}" for place in shown))
    table.put()


def _heads(rows: Rows) -> TextTable:
    """Return the cluster heads, a row each."""
    names = {
        "head": "head",
        "of": "of",
        "clusters": "K",
        "loss": "loss",
        "stability": "stability",
        "kappa": "kappa",
        "largest": "largest",
        "information": "information",
    }
    names = {name: title for name, title in (names | NAMES).items() if name in rows[0]}
    table = TextTable(*names.values(), "", text=("of", ""))
    for row in rows:
        state = "serves" if row["serves"] else "chosen of its K" if row["chosen"] else ""
        table.add(*(figure(row[name]) for name in names), state)
    return table


def _cuts(cuts: Rows) -> TextTable:
    """Return the cuts of a tree, a row each."""
    names = {
        "clusters": "clusters",
        "joined_at": "joined at",
        "stability": "stability",
        "share": "information",
    }
    labelled = {name: title for name, title in (NAMES | PURITY).items() if cuts and name in cuts[0]}
    table = TextTable(*(names | labelled).values())
    for row in cuts[:: max(1, -(-len(cuts) // (2 * SHOWN)))]:
        table.add(*(figure(row[name]) for name in names | labelled))
    return table
