"""``ccscale evaluate``: tells the scores, and notes on the data."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_device, add_run, add_split, path
from ccscale.cli.how_many import show_advice
from ccscale.errors import InputError
from ccscale.evaluate.notes import unscored
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import loading, say
from ccscale.wording import agree, class_name, counted

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f": "F"}
PURITY = {"purity": "purity"}
SHOWN = 20  # rows of a table; the file has all
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


def show_or_refuse(
    result: dict[str, Any] | None, as_json: bool, show: Callable[[dict[str, Any]], None]
) -> int:
    """Print what was found of images, and tell notes; None is the result of another rank than the first.

    Raises
    ------
    InputError
        After that, for data of which no image could be decoded: nobody wants clusters of those.
    """
    if result is None:
        return 0
    for sentence in result["notes"]:
        say(f"note: {sentence}")
    lines = result["undecodable"]
    for line in lines[:10]:
        say(f"cannot decode an image, which gets no cluster: {line}")
    if len(lines) > 10:
        say(f"… and {len(lines) - 10:,} more")
    put_json(result) if as_json else show(result)
    if lines and not result["images"] + result.get("unassigned", 0):
        raise InputError(f"none of {counted(len(lines), 'image')} can be decoded; are these images?")
    return 0


def _show(result: dict[str, Any]) -> None:
    """Print what `evaluate.evaluate.evaluate_run` found."""
    splits = ", ".join(result["splits"])
    put(f"{counted(result['images'], 'image')} of {result['shards']} ({splits}), step {result['step']}")
    used = result["clusters"] - result["empty"]
    put(
        f"{used:,} of {counted(result['clusters'], 'cluster')} {agree(used, 'is', 'are')}  used, as evenly as "
        f"{result['effective_clusters']:.1f} equal ones (entropy {result['entropy']:.3f}); the largest holds "
        f"{result['largest']:.1%}; mean confidence {result['confidence']:.3f}; information "
        f"{result['information']:.3f} of at most {math.log(result['clusters']):.3f} nats"
    )
    stability = result["stability"]
    if stability["views"]:
        kinds = {"neighbours": "an image and its neighbour", "both": "views of an image and its neighbour"}
        put(
            f"{kinds.get(stability.get('of'), 'two views of an image')} are in the same cluster for "
            f"{stability['agreement']:.1%} of {counted(stability['views'], 'image')}, {stability['chance']:.1%} by "
            f"chance: stability {stability['stability']:.3f}"
        )
    for sentence in result["warnings"]:
        put(f"warning: {sentence}")
    if "heads" in result:
        by = "by its neighbours' kappa" if "kappa" in result["heads"][0] else "by loss and stability"
        put(f"head {result['head']} is used, chosen {by}; all heads:")
        _heads(result["heads"]).put()
    clusters_table(result).put()
    if result["labelled"]:
        rows = {"cluster head": result}
        for key, title in (
            ("k_means", "k-means on features"),
            ("k_means_instance", "k-means on embeddings"),
            ("knn", "nearest neighbours"),
        ):
            if key in result:
                rows[title] = result[key]
        put(
            f"against {counted(result['labelled'], 'label')} (ACC: one-to-one matching; purity: many-to-one):"
        )
        scores_table(rows, NAMES | PURITY).put()
        if (probed := result.get("probed", result["labelled"])) < result["labelled"]:
            put(f"k-means and nearest neighbours: on {counted(probed, 'image')}, drawn by the seed")
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


def scores_table(rows: dict[str, dict[str, float]], names: dict[str, str]) -> TextTable:
    """Return scores, a row each."""
    table = TextTable("", *names.values(), text=("",))
    for title, figures in rows.items():
        table.add(title, *(_figure(figures.get(name)) for name in names))
    return table


def clusters_table(result: dict[str, Any]) -> TextTable:
    """Return the largest clusters, a row each."""
    columns = result["per_cluster"]
    sizes = columns["size"]
    largest = sorted(range(len(sizes)), key=lambda cluster: -sizes[cluster])[:SHOWN]
    more = f"the {SHOWN} largest of {len(sizes):,} clusters" if len(sizes) > SHOWN else None
    names = {"size": "images", "confidence": "confidence"}
    if "names" in result:
        columns = columns | result["names"]
        names |= {"name": "name", "said": "labels that agree", "labels": "of"}
    if "majority" in columns:
        classes = result["classes"]
        majority = [None if label is None else class_name(classes, label) for label in columns["majority"]]
        columns = columns | {"majority": majority}
        names |= {"majority": "most common class", "purity": "purity", "entropy": "entropy"}
    table = TextTable("cluster", *names.values(), text=("cluster", "name", "most common class"), title=more)
    for cluster in largest:
        cells = (columns[name][cluster] for name in names)
        table.add(str(cluster), *map(_figure, cells))
    return table


def _named(result: dict[str, Any]) -> None:
    """Print what given labels tell."""
    given = result["given"]
    put(
        f"{counted(given['images'], 'label')} of {counted(len(given['classes']), 'class', 'classes')}  given: "
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
        table.add(*(_figure(row[name]) for name in names), state)
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
        table.add(*(_figure(row[name]) for name in names | labelled))
    return table


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
